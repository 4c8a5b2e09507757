"""Limits that all replicas share, without a question to the database for each request.

Every replica counts for itself and hears in the background what the others counted, half a second late: with n replicas a limit can be
passed by what n - 1 of them answer in that time. Periods are fixed (a minute, a UTC day), so twice a minute's limit fits around its edge.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from cluster.catalog import Work, usage
from cluster.catalog.usage import Slot
from cluster.domain.base import new_id
from cluster.errors import TooMany

Period = Literal["minute", "day"]
SECONDS: dict[Period, int] = {"minute": 60, "day": 86_400}


class Limits:
    """The counts of one replica, and what it knows of the others'."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._replica = new_id("replica")
        self._own: defaultdict[Slot, int] = defaultdict(int)
        self._ends: dict[Slot, float] = {}
        self._others: dict[Slot, int] = {}
        self._changed: set[Slot] = set()

    def take(self, subject: str, period: Period, most: int, what: str) -> None:
        """Count one, if there is room. Raises TooMany, which says when there is again."""
        self.check(subject, period, most, what)
        self.add(subject, period, 1)

    def check(self, subject: str, period: Period, most: int, what: str) -> None:
        """Raises TooMany when as much was counted as there may be."""
        if self.used(subject, period) >= most:
            left = SECONDS[period] - self._clock() % SECONDS[period]
            raise TooMany.until(left, f"{most} {what} a {period} are used up; try again in {max(1, round(left))} seconds.")

    def add(self, subject: str, period: Period, amount: int) -> None:
        """Count what was used."""
        slot = self._slot(subject, period)
        self._own[slot] += amount
        self._ends[slot] = (self._clock() // SECONDS[period] + 1) * SECONDS[period]
        self._changed.add(slot)

    def used(self, subject: str, period: Period) -> int:
        """What was counted in the present period, as far as this replica knows."""
        slot = self._slot(subject, period)
        return self._own.get(slot, 0) + self._others.get(slot, 0)

    @property
    def to_tell(self) -> bool:
        """Whether something was counted that the other replicas do not know."""
        return bool(self._changed)

    @property
    def to_hear(self) -> bool:
        """Whether what the others count matters here."""
        return bool(self._own)

    def tell(self, work: Work) -> None:
        """Write down what was counted here. Runs in a thread, while counting goes on."""
        changed, self._changed = self._changed, set()
        try:
            usage.write(work, self._replica, {slot: (self._own[slot], _moment(self._ends[slot])) for slot in changed})
            usage.let_go(work)
        except BaseException:
            self._changed |= changed
            raise

    def hear(self, work: Work) -> None:
        """Read what was counted elsewhere, and let go of periods that are over and told."""
        self._others = usage.of_others(work, self._replica)
        for slot in [slot for slot, end in list(self._ends.items()) if end <= self._clock() and slot not in self._changed]:
            self._own.pop(slot, None)
            self._ends.pop(slot, None)

    def _slot(self, subject: str, period: Period) -> Slot:
        return subject, f"{period}/{int(self._clock() // SECONDS[period])}"


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
