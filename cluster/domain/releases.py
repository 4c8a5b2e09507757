"""Releases: one immutable bundle per version of an agent; how versions are earned, and how two releases differ."""

from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Literal, Mapping, Sequence

from pydantic import Field

from cluster.domain.agents import Agent
from cluster.domain.base import Frozen, digest_of, flat, now
from cluster.domain.prompts import PROMPT_CONTRACT
from cluster.domain.questions import Evaluation
from cluster.domain.versions import FIRST, Bump, Version

CHAMPION, CHALLENGER = "champion", "challenger"
STALE_AFTER = timedelta(days=30)


class Release(Frozen):
    """``agent@version``. ``card`` is the agent as it was; ``indexes`` maps corpus → version; ``datasets`` are digests.

    ``adapter_uri`` is a bundle in the artifact store (LoRA safetensors, or a router head). What was evaluated is, byte for byte,
    what is served: the engine checks ``adapter_digest`` when it loads.
    """

    agent: str
    version: str
    card: Agent
    adapter_uri: str
    adapter_digest: str
    base_model: str
    base_digest: str
    prompt_contract: int = PROMPT_CONTRACT
    indexes: dict[str, int] = Field(default_factory=dict)
    datasets: tuple[str, ...] = ()
    recipe: dict[str, Any] = Field(default_factory=dict)
    parent: str | None = None
    run_id: str | None = None
    mlflow_run_id: str | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    reason: str = ""
    created_at: datetime = Field(default_factory=now)

    @property
    def ref(self) -> str:
        return f"{self.agent}@{self.version}"

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything that decides how the release answers; the same in every process."""
        # A field that came later counts where it is used: the digests of releases from before it stay what they were.
        later = None if self.card.hands_over_to else {"hands_over_to"}
        return digest_of(
            {
                "card": self.card.model_dump(mode="json", exclude=later),
                "adapter": self.adapter_digest,
                "base": self.base_digest,
                "contract": self.prompt_contract,
                "indexes": self.indexes,
            }
        )


class AliasMove(Frozen):
    """One move of an alias. ``kind`` tells a promotion ("move") from going back ("rollback")."""

    before: str | None
    after: str | None
    reason: str
    kind: Literal["move", "rollback"] = "move"
    moved_at: datetime


def standing(moves: Sequence[AliasMove]) -> list[str]:
    """The versions an alias has pointed to that were not taken back, oldest first: a promotion puts one on top, a rollback takes
    versions off until its own is on top."""
    line: list[str] = []
    for move in moves:
        if move.kind == "rollback":
            while line and line[-1] != move.after:
                line.pop()
        if move.after is not None and line[-1:] != [move.after]:
            line.append(move.after)
    return line


class NextVersion(Frozen):
    """The version a new release would get, or None with the reason why there is none."""

    version: str | None
    reason: str


def next_version(
    parent: Release | None,
    taken: Sequence[str],
    *,
    base_digest: str,
    adapter_digest: str,
    datasets: Sequence[str],
    card: Agent,
    indexes: dict[str, int] | None = None,
    moment: datetime | None = None,
) -> NextVersion:
    """Versions are earned: new base or prompt contract → major; new data, card or age → patch; nothing changed → none. A minor step is a
    claim to be better, which is the recipe's to make and the gate's to judge. ``taken`` are the agent's existing versions: a name is
    never reused."""
    if parent is None:
        return NextVersion(version=str(_free(FIRST, "patch", taken)), reason="first release")
    part: Bump
    if parent.base_digest != base_digest or parent.prompt_contract != PROMPT_CONTRACT or parent.card.prompt != card.prompt:
        part, reason = "major", "new base model or prompt"
    elif set(datasets) - set(parent.datasets):
        part, reason = "patch", "new data"
    elif parent.card != card or parent.indexes != (indexes or {}) or parent.adapter_digest != adapter_digest:
        part, reason = "patch", "changed settings, index or training"
    elif (moment or now()) - parent.created_at > STALE_AFTER:
        part, reason = "patch", "older than 30 days"
    else:
        return NextVersion(version=None, reason=f"nothing changed since {parent.ref}")
    return NextVersion(version=str(_free(Version.parse(parent.version).bump(part), part, taken)), reason=reason)


def _free(version: Version, part: Bump, taken: Sequence[str]) -> Version:
    while str(version) in taken:
        version = version.bump(part)
    return version


class AnswerChange(Frozen):
    """One question that the two releases answer differently."""

    question_id: str
    question: str = ""
    before: str
    after: str
    passed_before: bool
    passed_after: bool


class ReleaseDiff(Frozen):
    """What changed between two releases of an agent."""

    before: str
    after: str
    made_of: dict[str, tuple[Any, Any]] = Field(default_factory=dict)
    card: dict[str, tuple[Any, Any]] = Field(default_factory=dict)
    recipe: dict[str, tuple[Any, Any]] = Field(default_factory=dict)
    metrics: dict[str, tuple[float | None, float | None]] = Field(default_factory=dict)
    indexes: dict[str, tuple[int | None, int | None]] = Field(default_factory=dict)
    datasets_added: tuple[str, ...] = ()
    datasets_removed: tuple[str, ...] = ()
    rows_added: int = 0
    rows_removed: int = 0
    examples_added: tuple[str, ...] = ()
    examples_removed: tuple[str, ...] = ()
    answers: dict[str, tuple[AnswerChange, ...]] = Field(default_factory=dict)


def _changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = sorted(set(before) | set(after))
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def changed_answers(before: Evaluation, after: Evaluation, asked: Mapping[str, str] | None = None) -> tuple[AnswerChange, ...]:
    """Question by question, where the answers or their judgement differ. Both evaluations must be of the same question set; ``asked``
    are the questions' texts by id."""
    was = {result.question_id: result for result in before.results}
    pairs = [(was[result.question_id], result) for result in after.results if result.question_id in was]
    return tuple(
        AnswerChange(
            question_id=two.question_id,
            question=(asked or {}).get(two.question_id, ""),
            before=one.answer,
            after=two.answer,
            passed_before=one.passed,
            passed_after=two.passed,
        )
        for one, two in pairs
        if (one.answer, one.passed) != (two.answer, two.passed)
    )


def diff(
    before: Release,
    after: Release,
    *,
    rows: tuple[Sequence[str], Sequence[str]] = ((), ()),
    examples: int = 5,
    evaluations: Sequence[tuple[Evaluation, Evaluation]] = (),
    asked: Mapping[str, str] | None = None,
) -> ReleaseDiff:
    """The difference between two releases; ``rows`` are those (added, removed), ``evaluations`` pairs on the same question set."""
    parts = ("adapter_digest", "base_model", "base_digest", "prompt_contract", "parent")
    one, two = ({part: getattr(release, part) for part in parts} for release in (before, after))
    return ReleaseDiff(
        before=before.ref,
        after=after.ref,
        made_of=_changed(one, two),
        card=_changed(before.card.model_dump(mode="json"), after.card.model_dump(mode="json")),
        recipe=_changed(flat(before.recipe), flat(after.recipe)),
        metrics=_changed(before.metrics, after.metrics),
        indexes=_changed(before.indexes, after.indexes),
        datasets_added=tuple(sorted(set(after.datasets) - set(before.datasets))),
        datasets_removed=tuple(sorted(set(before.datasets) - set(after.datasets))),
        rows_added=len(rows[0]),
        rows_removed=len(rows[1]),
        examples_added=tuple(rows[0][:examples]),
        examples_removed=tuple(rows[1][:examples]),
        answers={was.question_set: changed_answers(was, now_, asked) for was, now_ in evaluations},
    )
