"""Experiments: begun and stopped by people, judged by whoever serves, each change with its audit entry in the same transaction.

Who promotes the challenger of a canary is ``Registry.promote``, as for everybody else.
"""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from cluster.accounts import Actor
from cluster.catalog import Catalog, Work, agents, experiments, releases
from cluster.domain.agents import BASE_VERSION, RESERVED
from cluster.domain.base import now
from cluster.domain.experiment_results import ExperimentResults, results
from cluster.domain.experiments import SHARES, Experiment, Kind, State
from cluster.domain.parsing import parse
from cluster.domain.releases import CHAMPION
from cluster.domain.versions import split_ref
from cluster.errors import Conflict, InvalidInput, TreadleError, Unavailable
from cluster.registry import Registry

log = logging.getLogger(__name__)
GATEWAY = Actor("gateway", "experiment")
"""Who ends an experiment that has decided itself."""


def start(
    work: Work, actor: Actor, challenger: str, kind: Kind, share: float | None = None, settings: dict[str, Any] | None = None
) -> Experiment:
    """Put a release on trial beside its agent's champion. Raises NotFound when it is not there, Conflict when it is the champion or
    retired, or another experiment of the agent is running."""
    agent, version = split_ref(challenger)
    if agent in RESERVED or version is None:
        raise InvalidInput(f"'{challenger}' is no release that could answer; name one as agent@version (treadle releases list).")
    agents.get(work, agent)
    release = releases.get(work, challenger)
    gone = releases.retired(work)
    if release.ref in gone:
        raise Conflict(f"Release '{release.ref}' is retired ({gone[release.ref]}) and is not tried; train a new one.")
    champion = champion_of(work, agent)
    if champion == release.ref:
        raise Conflict(
            f"Release '{release.ref}' is the champion of '{agent}' already; name the one that is to be compared with it."
        )
    given: dict[str, Any] = {
        "agent": agent,
        "kind": kind,
        "champion": champion,
        "challenger": release.ref,
        "started_by": actor.user,
    }
    given |= {"share": SHARES.get(kind, 0.5) if share is None else share, "settings": settings or {}}
    made: Experiment = parse(Experiment, given, "experiment", InvalidInput)
    experiments.add(work, made)
    said = made.model_dump(mode="json", include={"agent", "kind", "champion", "share", "settings"})
    actor.note(work, "experiment.start", made.id, challenger=made.challenger, **said)
    return made


def champion_of(work: Work, agent: str) -> str:
    """The release that answers for the agent; ``agent@base`` where none was promoted."""
    return f"{agent}@{releases.alias(work, agent, CHAMPION) or BASE_VERSION}"


def stop(work: Work, actor: Actor, id: str, reason: str = "stopped by hand") -> Experiment:
    """The champion answers all again. Raises Conflict when it has ended already."""
    ended = _end(work, actor, experiments.get(work, id), "stopped", reason)
    if ended is None:
        present = experiments.get(work, id)
        raise Conflict(f"Experiment '{present.id}' has ended already: {present.state}, {present.reason or 'no reason said'}.")
    return ended


def _end(work: Work, actor: Actor, experiment: Experiment, state: State, reason: str) -> Experiment | None:
    ended = experiments.end(work, experiment.id, state, reason)
    if ended is not None:
        actor.note(work, "experiment.end", ended.id, agent=ended.agent, challenger=ended.challenger, state=state, reason=reason)
    return ended


def found(work: Work, experiment: Experiment) -> ExperimentResults:
    """What it shows so far."""
    return results(experiment, experiments.trials_of(work, experiment.id), experiments.thumbs_of(work, experiment.id))


def judge(catalog: Catalog, registry: Callable[[], Registry], every: float) -> list[Experiment]:
    """Judge the running experiments that nobody has judged for ``every`` seconds, and end those that are decided; returns the ended.

    Of several processes one judges at a time, and one alone ends an experiment.
    """
    with catalog.reading() as work:
        due = list(experiments.running(work).values())
    return [ended for one in due for ended in [_judged(catalog, registry, one, every)] if ended is not None]


def _judged(catalog: Catalog, registry: Callable[[], Registry], experiment: Experiment, every: float) -> Experiment | None:
    with catalog.transaction() as work:
        if not experiments.claim(work, experiment.id, now() - timedelta(seconds=every)):
            return None
    with catalog.reading() as work:
        over = _without_its_sides(work, experiment)
        shown = None if over else found(work, experiment)
    if shown is not None:
        over = _verdict(shown)
        if over is not None and over[0] == "promoted":
            try:
                registry().promote(experiment.challenger, f"{experiment.id}: {over[1]}", expected=experiment.champion)
            except Unavailable as error:
                log.warning("%s: %s waits to be promoted: %s", experiment.id, experiment.challenger, error.message)
                return None
            except TreadleError as error:
                log.error("%s: %s was not promoted: %s", experiment.id, experiment.challenger, error.message)
                over = ("ended", f"{over[1]}, but it could not be promoted: {error.message}")
    if over is None:
        return None
    with catalog.transaction() as work:
        ended = _end(work, GATEWAY, experiment, *over)
    if ended is not None:
        log.warning("%s of %s ended, %s: %s", ended.id, ended.agent, ended.state, ended.reason)
    return ended


def _without_its_sides(work: Work, experiment: Experiment) -> tuple[State, str] | None:
    """How it ends when champion or challenger is not what it was."""
    present = champion_of(work, experiment.agent)
    if present == experiment.challenger:
        moved = releases.moves(work, experiment.agent)[-1].reason.removeprefix(f"{experiment.id}: ")
        return "promoted", f"{present} was made the champion: {moved}"
    if present != experiment.champion:
        return "ended", f"{experiment.challenger} was tried against {experiment.champion}, and the champion is {present} now"
    gone = releases.retired(work).get(experiment.challenger)
    return None if gone is None else ("ended", f"{experiment.challenger} was retired ({gone})")


def _verdict(shown: ExperimentResults) -> tuple[State, str] | None:
    settings = shown.experiment.settings
    if shown.finding == "worse":
        return ("rolled_back", shown.because) if settings.auto_rollback else None
    ready = shown.finding in ("better", "not_worse") and shown.challenger.turns >= settings.min_turns
    return ("promoted", shown.because) if ready and settings.promote else None
