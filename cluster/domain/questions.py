"""Question sets, expectations, and evaluations: what a release is asked, and how it did."""

import math
from collections import defaultdict
from datetime import datetime
from typing import Literal, Sequence

from pydantic import Field, model_validator

from cluster.domain.base import Frozen, Name, digest_of, new_id, now
from cluster.domain.validation import Rule, check, citations, compiled

ExpectationKind = Literal["exact", "contains", "regex", "rules", "route"]
Purpose = Literal["skill", "regression", "forgetting", "guard", "routing"]


class Question(Frozen):
    """One question. ``expected`` is the text, substring, RE2 pattern or agent name (None: out of scope) that ``kind`` asks for."""

    id: str
    text: str = Field(min_length=1)
    kind: ExpectationKind = "exact"
    expected: str | None = None
    slices: tuple[str, ...] = ()
    source: str = ""

    @model_validator(mode="after")
    def _expectation_given(self) -> "Question":
        if self.expected is None and self.kind in ("exact", "contains", "regex"):
            raise ValueError(f"question '{self.id}' of kind {self.kind} needs 'expected'")
        return self


class QuestionSet(Frozen):
    """A named set of questions for one agent (None: for the router)."""

    name: Name
    agent: str | None = None
    purpose: Purpose = "skill"
    questions: tuple[Question, ...] = Field(min_length=1)

    @property
    def digest(self) -> str:
        """SHA-256 of the questions' canonical JSON: two evaluations compare only on equal digests."""
        return digest_of([question.model_dump(mode="json") for question in self.questions])


class QuestionResult(Frozen):
    """How one question went. ``latency_s`` is the wall time of the answer in seconds."""

    question_id: str
    answer: str
    passed: bool
    latency_s: float = 0.0
    slices: tuple[str, ...] = ()
    detail: str = ""


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


def normalised(text: str) -> str:
    """Text for exact comparison: surrounding and repeated white space folded, case kept."""
    return " ".join(text.split())


def passes(question: Question, answer: str, rules: Sequence[Rule] = (), passages: int = 0) -> tuple[bool, str]:
    """Whether ``answer`` meets the question's expectation, and a word on why not.

    Exact and contains ignore citations such as ``[1]`` unless the expectation itself cites, because which number a passage got is
    retrieval's doing.
    """
    expected = question.expected or ""
    said = normalised(answer)
    if not citations(expected):
        said = normalised(compiled(r"\s*\[\d{1,3}\]").sub("", said))
    match question.kind:
        case "exact":
            good = said == normalised(expected)
        case "contains":
            good = normalised(expected).lower() in said.lower()
        case "regex":
            good = compiled(expected).search(answer) is not None
        case "rules":
            verdict = check(rules, answer, passages)
            return verdict.passed, ", ".join(verdict.failures)
        case "route":
            good = (question.expected or "") == answer
    return good, "" if good else f"expected {question.kind} '{expected}'"
