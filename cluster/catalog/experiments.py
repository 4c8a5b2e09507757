"""Experiments, and what is counted of each. At most one of an agent is running.

Answers of a shadow lie here and not among the turns: no list of conversations, no dataset, no retraining trigger and no judge's sample
ever meets one.
"""

from datetime import datetime
from typing import Sequence

from sqlalchemy import select, update

from cluster.catalog.conversations import turns_of
from cluster.catalog.tables import experiments, signals, trials
from cluster.catalog.transaction import Work
from cluster.domain.base import now
from cluster.domain.conversations import Turn
from cluster.domain.experiments import Experiment, JudgedTurn, State, Trial
from cluster.errors import Conflict, NotFound, near


def add(work: Work, experiment: Experiment) -> None:
    """Start one. Raises Conflict while another one of the agent is running."""
    work.serialise(experiments)
    other = running(work).get(experiment.agent)
    if other is not None:
        raise Conflict(
            f"Experiment '{other.id}' of '{other.agent}' is running ({other.kind} of {other.challenger}); stop it first: "
            f"treadle experiments stop {other.id}"
        )
    row = {
        "id": experiment.id,
        "agent": experiment.agent,
        "started_at": experiment.started_at,
        "judged_at": experiment.started_at,
    }
    work.run(experiments.insert().values(**row, state=experiment.state, body=experiment.model_dump(mode="json")))


def get(work: Work, id: str) -> Experiment:
    """One of them; by an agent's name its newest one. Raises NotFound."""
    found = work.body(Experiment, select(experiments.c.body).where(experiments.c.id == id))
    if found is None:
        newest = everything(work, id)
        if newest:
            return newest[0]
        close = near(id, [name for row in work.run(select(experiments.c.id, experiments.c.agent)) for name in row], most=1)
        hint = f"did you mean '{close[0]}'?" if close else "treadle experiments list shows them."
        raise NotFound(f"There is no experiment '{id}'; {hint}")
    return found


def everything(work: Work, agent: str | None = None) -> list[Experiment]:
    """All, or those of an agent, the newest first."""
    statement = select(experiments.c.body).order_by(experiments.c.started_at.desc())
    return work.bodies(Experiment, statement if agent is None else statement.where(experiments.c.agent == agent))


def running(work: Work) -> dict[str, Experiment]:
    """Those that are running, by agent; what the gateway follows."""
    found = work.bodies(Experiment, select(experiments.c.body).where(experiments.c.state == "running"))
    return {one.agent: one for one in found}


def end(work: Work, id: str, state: State, reason: str) -> Experiment | None:
    """End a running experiment; None when it has ended already, so that of several who try only one does."""
    work.serialise(experiments)
    present = get(work, id)
    if present.state != "running":
        return None
    ended = present.model_copy(update={"state": state, "reason": reason, "ended_at": now()})
    values = {"state": state, "body": ended.model_dump(mode="json")}
    work.run(update(experiments).where(experiments.c.id == present.id).values(**values))
    return ended


def claim(work: Work, id: str, before: datetime) -> bool:
    """Whether it is the caller's turn to judge a running experiment: nobody has since ``before``."""
    mine = (experiments.c.id == id, experiments.c.state == "running", experiments.c.judged_at < before)
    return bool(work.run(update(experiments).where(*mine).values(judged_at=now())).rowcount)


def record(work: Work, recorded: Sequence[Turn]) -> None:
    """Count the turns that are in an experiment, once each. A shadow's answer is kept here whole; of others only what is counted."""
    for turn in recorded:
        if turn.experiment is not None and not turn.experiment.fallback:
            shadow = turn.model_dump(mode="json") if turn.experiment.shadow_of else None
            _put(work, turn.experiment.id, turn.user, turn.created_at, trial_of(turn), shadow)


def record_error(work: Work, id: str, user: str, trial: Trial) -> None:
    """Count an answer that failed."""
    _put(work, id, user, now(), trial, None)


def _put(work: Work, id: str, user: str, moment: datetime, trial: Trial, shadow: dict[str, object] | None) -> None:
    row = {"id": trial.id, "experiment": id, "arm": trial.arm, "user": user, "created_at": moment}
    work.add_missing(trials, {**row, "body": trial.model_dump(mode="json"), "shadow": shadow})


def trial_of(turn: Turn) -> Trial:
    """What is counted of a turn that is in an experiment."""
    assert turn.experiment is not None
    return Trial(
        id=turn.id,
        arm=turn.experiment.arm,
        release=turn.release or "",
        conversation=turn.experiment.talk or turn.conversation_id,
        failed=not turn.validation.passed,
        seconds=turn.timings.get("total"),
        shadow_of=turn.experiment.shadow_of,
    )


def trials_of(work: Work, id: str) -> list[Trial]:
    """Everything counted, in the order in which it was answered."""
    statement = select(trials.c.body).where(trials.c.experiment == id).order_by(trials.c.created_at, trials.c.id)
    return work.bodies(Trial, statement)


def thumbs_of(work: Work, id: str) -> list[JudgedTurn]:
    """The thumbs on the turns of an experiment, in the order in which they were given."""
    statement = (
        select(trials.c.id, trials.c.body, signals.c.body)
        .select_from(trials.join(signals, signals.c.turn_id == trials.c.id))
        .where(trials.c.experiment == id, signals.c.kind == "thumb")
        .order_by(signals.c.created_at, signals.c.id)
    )
    return [
        JudgedTurn(turn=row[0], conversation=row[1]["conversation"], arm=row[1]["arm"], down=row[2]["value"] == "down")
        for row in work.run(statement)
    ]


def shadowed(work: Work, id: str, limit: int = 20) -> list[tuple[Turn, Turn]]:
    """The newest answers of a shadow, each as (champion's turn, challenger's). Only questions whose turn is still there."""
    statement = select(trials.c.shadow).where(trials.c.experiment == id, trials.c.shadow.is_not(None))
    asked = work.bodies(Turn, statement.order_by(trials.c.created_at.desc(), trials.c.id).limit(limit))
    places = [turn.experiment.shadow_of or "" for turn in asked if turn.experiment]
    by_id = turns_of(work, places)
    return [(by_id[place], turn) for place, turn in zip(places, asked, strict=True) if place in by_id]
