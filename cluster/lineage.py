"""What the releases of an agent have learnt, and what is known for the decision whether to train (``cluster.domain.triggers``).

It is asked of the catalog, never of a step's result, so a turn of the wheel that was cut short is taken up by the next one.
"""

from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Sequence, cast

from pydantic import ValidationError

from cluster.artifacts import Artifacts, read_rows_file
from cluster.base_model import base_digest, base_role
from cluster.catalog import Catalog, Work, agents, corpora, datasets, forgotten, questions, releases, runs, signals
from cluster.domain.agents import ROUTER
from cluster.domain.base import Frozen, now
from cluster.domain.datasets import Dataset, rows_digest
from cluster.domain.prompts import PROMPT_CONTRACT
from cluster.domain.recipes import DpoRecipe, RouterRecipe, SftRecipe
from cluster.domain.releases import CHALLENGER, CHAMPION, Release
from cluster.domain.triggers import Known, Rates
from cluster.errors import NotFound
from cluster.settings import Settings, rooted

_BEFORE = timedelta(days=90)  # how far back answers are compared with
# How a training is run and not what is learnt: none of these makes another adapter worth having.
_SPREAD = {"workers", "threads", "gpus_per_worker", "micro_batch_size", "zero", "offload", "gradient_checkpointing"}
_SPREAD |= {"packing", "sharding", "liger"}
_HOW = {*_SPREAD, "checkpoint_every", "bump"}


class Lineage:
    """Dataset references are names (their newest) or ``name@digest``; NotFound is raised where there is none."""

    def __init__(self, settings: Settings, catalog: Catalog, artifacts: Artifacts) -> None:
        self._settings, self._catalog, self._artifacts = settings, catalog, artifacts

    def teaching(self, recipe: SftRecipe, window_days: int) -> Known:
        """What is known for an SFT training of the recipe's agent."""
        base = base_digest(base_role(self._settings, recipe.base))
        moment = now()
        with self._catalog.reading() as work:
            wanted = [datasets.get(work, ref) for ref in recipe.datasets]
            digests = self._digests(wanted, rooted(recipe))
            view = _View(work, recipe.agent)
            card = next((one for one in agents.everyone(work) if one.name == recipe.agent), None)
            prompt = card.prompt if card else ""
            alike = [one for one in view.family if _alike(one.recipe, recipe)]
            made_of = (base, prompt, PROMPT_CONTRACT)
            same = [one for one in alike if (one.base_digest, one.card.prompt, one.prompt_contract) == made_of]
            champion, tried = view.champion, view.tried(same, digests)
            stands = champion if tried is None else None  # what is to be compared with the world as it is now
            known = Known(
                agent=recipe.agent,
                moment=moment,
                forgets=forgotten.marks(work, "release").get(champion.ref) if champion else None,
                base_changed=stands is not None and stands.base_digest != base,
                contract_changed=stands is not None and stands.prompt_contract != PROMPT_CONTRACT,
                prompt_changed=stands is not None and stands.card.prompt != prompt,
                recipe_changed=stands is not None and not view.line & {one.ref for one in alike},
                regressions=view.regressions(),
                **view.renewal(),
                **view.dates(tried, digests),
                **view.rates(moment, window_days),
            )
        held = champion.datasets if champion else tried.datasets if tried else ()
        new, gone = self._row_changes(held, wanted, recipe)
        untried = sum(self._row_changes(tried.datasets, wanted, recipe)) if tried else 0
        rows = sum(one.rows for one in wanted) or new
        return known.model_copy(update={"rows": rows, "new_rows": new, "gone_rows": gone, "untried": untried})

    def improving(self, recipe: DpoRecipe, window_days: int) -> Known:
        """What is known for a DPO training of the agent: whether judgements wait that its champion has not learnt."""
        pairs, liked = self.waiting(recipe.agent, "dpo"), self.waiting(recipe.agent, "sft")
        moment = now()
        with self._catalog.reading() as work:
            view = _View(work, recipe.agent)
            wanted = [datasets.get(work, ref) for ref in pairs]
            digests = {one.digest for one in wanted} | {datasets.get(work, ref).digest for ref in liked}
            children = [one for one in view.family if view.champion and one.parent == view.champion.ref and "beta" in one.recipe]
            tried = view.tried(children, digests) if pairs else None
            return Known(
                agent=recipe.agent,
                moment=moment,
                pairs=sum(one.rows for one in wanted),
                untried_pairs=sum(one.rows for one in wanted if tried and one.digest not in tried.datasets),
                regressions=view.regressions(),
                **view.dates(tried, digests),
                **view.rates(moment, window_days),
            )

    def routing(self, recipe: RouterRecipe) -> Known:
        """What is known for the router head: agents' cards and router rows against the head in use."""
        moment = now()
        with self._catalog.reading() as work:
            view = _View(work, ROUTER)
            wanted = [datasets.get(work, ref) for ref in recipe.datasets]
            head = view.champion
            same = [one for one in view.family if _alike(one.recipe, recipe)]
            digests = self._digests(wanted, rooted(recipe))
            new = head is not None and not digests <= set(head.datasets)
            tried = view.tried(same, digests)
            newest = tried or head
            newer = agents.newer_than(work, newest.created_at) if newest else []
            dates = view.dates(tried, digests)
            if tried is not None:  # a head is judged by the job that made it: it does not wait
                dates |= {"waiting": None, "kept": tried.ref}
        return Known(
            agent=ROUTER,
            moment=moment,
            rows=sum(one.rows for one in wanted),
            new_rows=max(1, sum(one.rows for one in wanted if head and one.digest not in head.datasets)) if new else 0,
            untried=sum(one.rows for one in wanted if tried and one.digest not in tried.datasets),
            recipe_changed=head is not None and not same,
            agents_changed=tuple(newer),
            **dates,
        )

    def waiting(self, agent: str, kind: str) -> tuple[str, ...]:
        """The datasets that signals to an agent became (kind: sft or dpo) and that its champion does not hold, oldest first."""
        with self._catalog.reading() as work:
            held = releases.get(work, agent).datasets if releases.alias(work, agent, CHAMPION) else ()
            found = [one for one in datasets.everything(work) if one.name == f"{agent}-signals-{kind}"]
        return tuple(one.ref for one in reversed(found) if one.digest not in held)

    def unjudged(self, agent: str) -> str | None:
        """The challenger, when no gate has judged it."""
        with self._catalog.reading() as work:
            return _View(work, agent).unjudged

    def _digests(self, wanted: Sequence[Dataset], recipe: Any) -> set[str]:
        """Of the datasets, or of the rows of a file, as a training would record them."""
        if recipe.rows:
            return {rows_digest(read_rows_file(Path(recipe.rows)))}
        return {one.digest for one in wanted}

    def _row_changes(self, held: Sequence[str], wanted: Sequence[Dataset], recipe: SftRecipe) -> tuple[int, int]:
        """How many rows stand in ``wanted`` and not in the datasets ``held``, and how many of those it held in former datasets of the same
        names and stand there no more. Rows are read only where digests differ."""
        recipe = cast(SftRecipe, rooted(recipe))
        now_, names = {one.digest for one in wanted}, {one.name for one in wanted}
        if recipe.rows:
            file = read_rows_file(Path(recipe.rows))
            return (0 if rows_digest(file) in held else len(file)), 0
        if now_ <= set(held):
            return 0, 0
        with self._catalog.reading() as work:
            former = [one for one in datasets.everything(work) if one.digest in held]
        was = self._texts(one.uri for one in former if one.name in names)
        new = self._texts(one.uri for one in wanted)
        return len(new - was), len(was - new)

    def _texts(self, uris: Any) -> set[str]:
        return {row.model_dump_json() for uri in uris for row in self._artifacts.read_rows(uri)}


class _View:
    """An agent's releases, newest version first, as one look into the catalog finds them."""

    def __init__(self, work: Work, agent: str) -> None:
        self._work, self._agent = work, agent
        gone = releases.retired(work)
        self.family = sorted(releases.of_agent(work, agent), key=lambda one: one.created_at, reverse=True)
        self._by_ref = {one.ref: one for one in self.family}
        version = releases.alias(work, agent, CHAMPION)
        self.champion: Release | None = self._by_ref[f"{agent}@{version}"] if version else None
        challenger = releases.alias(work, agent, CHALLENGER)
        judged = {
            run.result.get("challenger") for run in runs.of_job(work, "train_jobs.gate") if run.result and not _open(run.result)
        }
        ref = f"{agent}@{challenger}"
        self.unjudged = ref if challenger and ref not in judged and ref not in gone else None

    def tried(self, alike: Sequence[Release], digests: set[str]) -> Release | None:
        """The newest of these releases that is not the champion, nor what it came from, and is newer or has learnt all of this."""
        outside = [one for one in alike if one.ref not in self.line]
        for one in outside:
            if digests <= set(one.datasets) and not (self.champion and digests <= set(self.champion.datasets)):
                return one
        return next((one for one in outside if self.champion is None or one.created_at > self.champion.created_at), None)

    @cached_property
    def line(self) -> set[str]:
        """The champion and what it came from."""
        line, one = set(), self.champion
        while one is not None and one.ref not in line:
            line.add(one.ref)
            one = self._by_ref.get(one.parent or "")
        return line

    def dates(self, tried: Release | None, digests: set[str]) -> dict[str, Any]:
        """What was tried when: the fields of ``Known`` that say it."""
        whole = tried is not None and digests <= set(tried.datasets)
        waits = whole and tried is not None and tried.ref == self.unjudged
        since = self.champion.created_at if self.champion else None
        after = [one for one in self.family if since is None or one.created_at > since]
        return {
            "champion": self.champion.ref if self.champion else None,
            "champion_at": since,
            "trained_at": self.family[0].created_at if self.family else None,
            "waiting": tried.ref if waits and tried else None,
            "kept": tried.ref if tried and not waits else None,
            "kept_in_a_row": len(after),
        }

    def rates(self, moment: datetime, window_days: int) -> dict[str, Rates]:
        """Failures and thumbs down: since the promotion (or within the window, whichever is shorter) against before."""
        moved = [
            one.moved_at
            for one in releases.moves(self._work, self._agent)
            if self.champion and one.after == self.champion.version
        ]
        if not moved:
            return {}
        start = max(moved[-1], moment - timedelta(days=window_days))
        found = {}
        for name, count in (("failures", signals.failures), ("thumbs_down", signals.thumbs_down)):
            before, since = count(self._work, self._agent, start - _BEFORE, start), count(self._work, self._agent, start, moment)
            found[name] = Rates(bad_before=before[0], n_before=before[1], bad_since=since[0], n_since=since[1])
        return found

    def regressions(self) -> int:
        """Regression questions that the champion's newest evaluation fails and its first one did not."""
        if self.champion is None:
            return 0
        found = [
            one for one in questions.of_release(self._work, self.champion.ref) if one.question_set == f"{self._agent}-regression"
        ]
        if not found:
            return 0
        failing = [{one.question_id for one in evaluation.results if not one.passed} for evaluation in (found[0], found[-1])]
        return len(failing[0] - failing[1])

    def renewal(self) -> dict[str, Any]:
        """What of card and indexes changed since the champion, unless a release with just that is there already."""
        card = next((one for one in agents.everyone(self._work) if one.name == self._agent), None)
        if self.champion is None or card is None:
            return {}
        newest: dict[str, int] = {}
        for corpus in card.corpora:
            try:
                newest[corpus] = corpora.newest(self._work, corpus).version
            except NotFound:  # its documents come out of this turn
                return {}
        bytes_ = self.champion.adapter_digest
        if any((one.card, one.indexes, one.adapter_digest) == (card, newest, bytes_) for one in self.family):
            return {}
        moved = tuple(name for name, version in newest.items() if self.champion.indexes.get(name) != version)
        return {"card_changed": self.champion.card != card, "indexes_changed": moved}


def _open(result: dict[str, Any]) -> bool:
    """Whether a gate's verdict has not been acted on: it passed, and nobody promoted it yet."""
    return result.get("verdict") == "promote" and not result.get("promoted")


def _alike(recorded: dict[str, Any], recipe: Frozen) -> bool:
    """Whether a release's recipe asks for the same training: fields it was made without have their defaults, and how the work was spread
    does not count."""
    try:
        was = type(recipe).model_validate(recorded)
    except ValidationError:  # of another job, or of a time with other fields
        return False
    left = [rooted(one).model_dump(mode="json", exclude=_HOW) for one in (was, recipe)]
    return left[0] == left[1]
