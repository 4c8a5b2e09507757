"""Question sets, expectations, and evaluations: what a release is asked, and how it did."""

import json
import math
from collections import Counter, defaultdict
from datetime import datetime
from typing import Any, Literal, Sequence

from pydantic import Field, model_validator

from cluster.domain.base import Frozen, Name, digest_of, new_id, now
from cluster.domain.expectations import holds_one_of, is_one_of
from cluster.domain.patterns import compiled
from cluster.domain.schemas import against_schema, check_schema
from cluster.domain.validation import Rule, check
from cluster.errors import InvalidInput

ExpectationKind = Literal["exact", "contains", "regex", "json_schema", "similarity", "rules", "judge", "route"]
Purpose = Literal["skill", "regression", "forgetting", "guard", "routing"]
BY_MODEL = ("similarity", "judge")
"""Kinds that a model is needed for: an embedder, a judge."""
SIMILAR, GOOD_GRADE = 0.8, 4.0
_ONE_OF = ("exact", "contains", "similarity", "judge")


class Question(Frozen):
    """One question, and what is expected of the answer, by ``kind``:

    exact        ``expected`` is the answer, white space and citations aside; of several texts, one is
    contains     ``expected`` stands in it, case aside; of several texts, one does
    regex        ``expected`` is an RE2 pattern that is found in it
    json_schema  the answer is JSON (alone or in one code fence) that fits ``expected``, a JSON schema: a mapping, or its JSON text
    similarity   the embedder finds it like ``expected``, or one of several texts: cosine at least ``threshold`` (0.8)
    rules        the agent's validation rules hold, as they did when the answer was served
    judge        a model grades it 1 to 5 by ``criteria`` and beside ``expected``, reference answers: at least ``threshold`` (4)
    route        ``expected`` is the agent that answers; None: out of scope
    """

    id: str
    text: str = Field(min_length=1)
    kind: ExpectationKind = "exact"
    expected: str | tuple[str, ...] | None = None
    slices: tuple[str, ...] = ()
    source: str = ""
    criteria: tuple[str, ...] = ()
    threshold: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """A schema may be given as the mapping it is, criteria as one text."""
        if not isinstance(value, dict):
            return value
        made = dict(value)
        if isinstance(made.get("expected"), dict) and made.get("kind") == "json_schema":
            made["expected"] = json.dumps(made["expected"], sort_keys=True, ensure_ascii=False)
        if isinstance(made.get("criteria"), str):
            made["criteria"] = (made["criteria"],)
        return made

    @model_validator(mode="after")
    def _expectation_given(self) -> "Question":
        about = f"question '{self.id}' of kind {self.kind}"
        if not self.references and self.kind not in ("rules", "route", "judge"):
            raise ValueError(f"{about} needs 'expected'")
        if self.kind == "judge" and not (self.references or self.criteria):
            raise ValueError(f"{about} needs 'criteria', 'expected', or both")
        if isinstance(self.expected, tuple) and self.kind not in _ONE_OF:
            raise ValueError(f"{about} takes one text as 'expected', not several")
        if self.criteria and self.kind != "judge":
            raise ValueError(f"{about} takes no 'criteria'; they are for a judge")
        if self.kind in _ONE_OF[1:] and not all(text.strip() for text in self.references):
            raise ValueError(f"{about} has an empty text in 'expected'")
        self._check_threshold(about)
        if self.kind == "json_schema":
            try:
                check_schema(self.references[0])
            except ValueError as error:
                raise ValueError(f"{about} cannot be used: {error}") from None
        if self.kind == "regex":
            try:
                compiled(self.references[0])
            except ValueError as error:
                raise ValueError(f"{about}: {error}") from None
        return self

    def _check_threshold(self, about: str) -> None:
        if self.threshold is None:
            return
        if self.kind not in BY_MODEL:
            raise ValueError(f"{about} takes no 'threshold'")
        low, high = (0.0, 1.0) if self.kind == "similarity" else (1.0, 5.0)
        if not low < self.threshold <= high:
            raise ValueError(f"{about} takes a 'threshold' above {low:g} and up to {high:g}, not {self.threshold:g}")

    @property
    def references(self) -> tuple[str, ...]:
        """The expected texts, none, one or several."""
        if self.expected is None:
            return ()
        return (self.expected,) if isinstance(self.expected, str) else self.expected

    @property
    def passes_from(self) -> float:
        """The cosine or grade from which the answer passes."""
        if self.threshold is not None:
            return self.threshold
        return SIMILAR if self.kind == "similarity" else GOOD_GRADE


class QuestionSet(Frozen):
    """A named set of questions for one agent (None: for the router). No id stands twice."""

    name: Name
    agent: str | None = None
    purpose: Purpose = "skill"
    questions: tuple[Question, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ids_once(self) -> "QuestionSet":
        twice = [name for name, count in Counter(question.id for question in self.questions).items() if count > 1]
        if twice:
            raise ValueError(f"the id '{twice[0]}' stands at several questions of '{self.name}'; give each its own")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the questions' canonical JSON: two evaluations compare only on equal digests."""
        return digest_of([_identity(question) for question in self.questions])


def _identity(question: Question) -> dict[str, Any]:
    """The question as its digest sees it. Fields that came later count only where they say something, so that evaluations from before
    them still compare."""
    said = question.model_dump(mode="json")
    later: dict[str, Any] = {"criteria": [], "threshold": None}
    return {key: value for key, value in said.items() if key not in later or value != later[key]}


class QuestionResult(Frozen):
    """How one question went. ``score`` is 0 to 1 (where none is given: 1 for passed, 0 for failed); ``latency_s`` is the wall time of
    the answer in seconds; ``answered`` is False where no answer or no grade could be had, which says nothing about the release."""

    question_id: str
    answer: str
    passed: bool
    latency_s: float = 0.0
    slices: tuple[str, ...] = ()
    detail: str = ""
    score: float = Field(default=0.0, ge=0.0, le=1.0)
    answered: bool = True

    @model_validator(mode="before")
    @classmethod
    def _score_by_passing(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("score") is None:
            return {**value, "score": 1.0 if value.get("passed") else 0.0}
        return value


class Evaluation(Frozen):
    """A release's results on a question set (``release`` is ``agent@version`` or ``agent@base``)."""

    id: str = Field(default_factory=lambda: new_id("eval"))
    release: str
    question_set: Name
    set_digest: str
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    results: tuple[QuestionResult, ...] = Field(min_length=1)
    created_at: datetime = Field(default_factory=now)

    @property
    def n(self) -> int:
        return len(self.results)

    @property
    def rate(self) -> float:
        """Share of questions passed, 0 to 1."""
        return sum(result.passed for result in self.results) / self.n

    @property
    def score(self) -> float:
        """Mean score of the questions, 0 to 1."""
        return sum(result.score for result in self.results) / self.n

    @property
    def unanswered(self) -> int:
        """Questions without an answer or a grade: they count as not passed, and the evaluation is worth doing again."""
        return sum(not result.answered for result in self.results)

    def slice_rates(self) -> dict[str, float]:
        """Pass rate per slice, 0 to 1."""
        groups: dict[str, list[bool]] = defaultdict(list)
        for result in self.results:
            for name in result.slices:
                groups[name].append(result.passed)
        return {name: sum(passed) / len(passed) for name, passed in sorted(groups.items())}

    def latency(self, quantile: float) -> float:
        """Latency in seconds at ``quantile`` (nearest rank)."""
        ordered = sorted(result.latency_s for result in self.results)
        return ordered[min(len(ordered) - 1, max(0, math.ceil(quantile * len(ordered)) - 1))]


def passes(question: Question, answer: str, rules: Sequence[Rule] = (), passages: int = 0) -> tuple[bool, str]:
    """Whether ``answer`` meets the question's expectation, and a word on why not. Raises InvalidInput for the kinds that need a model.

    Exact and contains ignore citations such as ``[1]`` unless the expectation itself cites, because which number a passage got is
    retrieval's doing.
    """
    expected = question.references
    match question.kind:
        case "exact":
            good = is_one_of(answer, expected)
        case "contains":
            good = holds_one_of(answer, expected)
        case "regex":
            good = compiled(expected[0]).search(answer) is not None
        case "json_schema":
            why = against_schema(expected[0], answer)
            return not why, why
        case "rules":
            verdict = check(rules, answer, passages)
            return verdict.passed, ", ".join(verdict.failures)
        case "route":
            good = (expected[0] if expected else "") == answer
        case _:
            raise InvalidInput(
                f"Question '{question.id}' of kind {question.kind} needs a model; treadle eval run asks it with one."
            )
    shown = " or ".join(f"'{text}'" for text in expected) or "''"
    return good, "" if good else f"expected {question.kind} {shown}"
