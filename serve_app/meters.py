"""What is counted of the service, for Prometheus.

Every replica counts in memory and writes its counters into the catalog every two seconds; whichever replica is asked for the metrics
writes its own and gives the sum over all. The counters of a replica that is gone stay in the sum, so none ever goes backwards; one
that is killed takes its last two seconds with it.
"""

import asyncio
import contextlib
import logging
import threading
import time
from bisect import bisect_left
from datetime import timedelta

from cluster.catalog import Catalog, answered_once, meters
from cluster.domain.base import new_id, now
from cluster.errors import TreadleError

log = logging.getLogger(__name__)
EVERY_S = 2.0
SILENT = timedelta(minutes=10)
HEARTBEAT_S = 60.0
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
FAMILIES = {
    "treadle_requests_total": ("counter", "HTTP requests by route and status."),
    "treadle_answers_total": ("counter", "Answers that were written to their end, by agent and how they ended."),
    "treadle_tokens_total": ("counter", "Tokens of answered prompts and of their answers."),
    "treadle_first_token_seconds": ("histogram", "From a question to the first piece of its answer."),
    "treadle_answer_seconds": ("histogram", "From a question to the end of its answer, recorded."),
    "treadle_failed_validations_total": ("counter", "Answers that broke a rule of their agent."),
    "treadle_corrections_total": ("counter", "Answers that were asked for once more, by agent and which one was kept."),
    "treadle_guard_blocks_total": ("counter", "Questions that the guard refused."),
    "treadle_shadows_dropped_total": (
        "counter",
        "Questions of a shadow that its challenger was not asked, because there was no room.",
    ),
}


class Meters:
    """One replica's counters: a dictionary by series."""

    def __init__(self) -> None:
        self.counters: dict[str, float] = {}

    def add(self, series: str, value: float = 1.0) -> None:
        """``series`` is written as Prometheus writes it: name{label="value"}."""
        self.counters[series] = self.counters.get(series, 0.0) + value

    def observe(self, name: str, seconds: float) -> None:
        """One observation of a histogram. Buckets are kept apart here and summed up when they are shown."""
        place = bisect_left(BOUNDS, seconds)
        bound = BOUNDS[place] if place < len(BOUNDS) else "+Inf"
        self.add(f'{name}_bucket{{le="{bound}"}}')
        self.add(f"{name}_sum", seconds)

    def request(self, route: str, status: int) -> None:
        """A request was answered with this status."""
        self.add(f'treadle_requests_total{{route="{route}",status="{status}"}}')

    def tokens(self, prompt: int, completion: int) -> None:
        """What was read and written."""
        self.add('treadle_tokens_total{kind="prompt"}', prompt)
        self.add('treadle_tokens_total{kind="completion"}', completion)

    def answered(self, agent: str, reason: str, tokens: dict[str, int], timings: dict[str, float], passed: bool) -> None:
        """An answer is whole."""
        name = escaped(agent)
        self.add(f'treadle_answers_total{{agent="{name}",finish_reason="{reason}"}}')
        self.tokens(tokens["prompt"], tokens["completion"])
        self.observe("treadle_first_token_seconds", timings["first_token"])
        self.observe("treadle_answer_seconds", timings["total"])
        if not passed:
            self.add(f'treadle_failed_validations_total{{agent="{name}"}}')


class MeterBook:
    """A replica's counters in the catalog."""

    def __init__(self, catalog: Catalog, counted: Meters) -> None:
        self._catalog, self._counted = catalog, counted
        self.replica = new_id("replica")
        self._written: dict[str, float] | None = None
        self._before: dict[str, float] = {}
        self._wrote_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._writing = threading.Lock()

    def follow(self) -> None:
        """Write from now on."""
        self._task = asyncio.create_task(self._write_on())

    async def close(self) -> None:
        """Write once more and stop."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        with contextlib.suppress(TreadleError):
            await asyncio.to_thread(self.write)

    async def _write_on(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            late = time.monotonic() - self._wrote_at > HEARTBEAT_S
            if not late and self._counted.counters == self._written:
                continue
            try:
                await asyncio.to_thread(self.write, late)
            except TreadleError as error:
                log.warning("the counters were not written: %s", error.message)

    def write(self, tidy: bool = False) -> None:
        """This replica's counters; with ``tidy`` those of replicas that are gone are put together, and answers kept for their
        idempotency key are let go when their time is over."""
        with self._writing:
            self._write(dict(self._counted.counters), tidy)

    def _write(self, counters: dict[str, float], tidy: bool) -> None:
        with self._catalog.transaction() as work:
            if tidy:
                meters.fold(work, now() - SILENT)
                answered_once.let_go(work)
            if self._written is None:
                meters.begin(work, self.replica, self._since(counters))
            elif not meters.go_on(work, self.replica, self._since(counters)):
                # It slept so long that what it had counted is among the gone: it goes on under another name with what is new.
                self.replica, self._before = new_id("replica"), self._written
                meters.begin(work, self.replica, self._since(counters))
        self._written, self._wrote_at = counters, time.monotonic()

    def _since(self, counters: dict[str, float]) -> dict[str, float]:
        return {series: value - self._before.get(series, 0.0) for series, value in counters.items()}

    def text(self) -> str:
        """All replicas' counters as Prometheus reads them."""
        self.write()
        with self._catalog.reading() as work:
            rows = meters.everything(work)
        alive = [
            row for row in rows if row.replica != meters.GONE and row.updated_at > now() - timedelta(seconds=3 * HEARTBEAT_S)
        ]
        return exposition(meters.summed(rows), {"treadle_replicas": float(len(alive))})


def exposition(counters: dict[str, float], gauges: dict[str, float]) -> str:
    """Prometheus' text format, version 0.0.4."""
    lines = []
    for name, (kind, meaning) in FAMILIES.items():
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
        if kind == "histogram":
            lines += _histogram(name, counters)
        else:
            own = sorted(series for series in counters if series.split("{")[0] == name)
            lines += [f"{series} {counters[series]:.17g}" for series in own]
    lines += ["# HELP treadle_replicas Router replicas that were heard of in the last minutes.", "# TYPE treadle_replicas gauge"]
    lines += [f"{name} {value:g}" for name, value in gauges.items()]
    return "\n".join(lines) + "\n"


def _histogram(name: str, counters: dict[str, float]) -> list[str]:
    lines, total = [], 0.0
    for bound in (*BOUNDS, "+Inf"):
        total += counters.get(f'{name}_bucket{{le="{bound}"}}', 0.0)
        lines.append(f'{name}_bucket{{le="{bound}"}} {total:.17g}')
    return [*lines, f"{name}_sum {counters.get(f'{name}_sum', 0.0):.17g}", f"{name}_count {total:.17g}"]


def escaped(value: str) -> str:
    """A label's value."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
