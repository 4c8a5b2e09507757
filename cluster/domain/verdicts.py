"""What the gate says of a challenger, and what it rests on."""

from typing import Literal

from pydantic import Field

from cluster.domain.base import Frozen
from cluster.domain.questions import Purpose

Said = Literal["promote", "keep"]
Outcome = Literal["promote", "keep", "waived"]


class Leak(Frozen):
    """A question that stands in the challenger's training rows; ``share`` of it (0 to 1) is in the row ``source`` (dataset: row)."""

    question_id: str
    source: str
    share: float
    slices: tuple[str, ...] = ()


class SliceComparison(Frozen):
    """One slice of a set: ``lost`` questions that only the champion passes, ``won`` ones that only the challenger passes.

    ``p_worse`` is of the one-sided sign test, corrected by Holm's method over the slices that can fail at all; ``worse`` is its verdict.
    """

    name: str
    n: int
    champion_passed: int
    challenger_passed: int
    lost: int
    won: int
    p_worse: float
    worse: bool


class Comparison(Frozen):
    """Champion and challenger on one question set; rates 0 to 1, ``interval`` of challenger minus champion.

    ``n`` questions were compared: those asked, without the leaked and the unanswered ones. With few of them there is no interval, and
    each counts alone. ``p_better`` and ``p_worse`` are of one-sided sign tests, ``p`` of the two-sided one.
    """

    question_set: str
    purpose: Purpose
    n: int
    champion_rate: float
    challenger_rate: float
    difference: float
    interval: tuple[float, float] | None
    p: float = 1.0
    p_better: float = 1.0
    p_worse: float = 1.0
    slices: tuple[SliceComparison, ...] = ()
    worse_slices: tuple[str, ...] = ()
    broken: tuple[str, ...] = Field(default=(), description="ids of questions that the champion passes and the challenger fails")
    fixed: tuple[str, ...] = Field(default=(), description="ids of questions that the challenger passes and the champion fails")
    leaked: tuple[Leak, ...] = ()
    unanswered: tuple[str, ...] = Field(default=(), description="ids of questions that one of the two had no answer to")

    @property
    def asked(self) -> int:
        """All questions of the set."""
        return self.n + len(self.leaked) + len(self.unanswered)


class Verdict(Frozen):
    """``reasons`` are the sentences that decided, ``notes`` what else to know; ``missing`` are purposes without a question set.

    ``waived`` is the reason a person gave to promote a challenger that the gate would have kept.
    """

    verdict: Said
    reasons: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()
    missing: tuple[Purpose, ...] = ()
    champion: str = ""
    challenger: str = ""
    promoted: bool = False
    waived: str | None = None

    @property
    def outcome(self) -> Outcome:
        """The verdict in one word, a waiver included."""
        return "waived" if self.waived else self.verdict
