"""Progress of a long step: how much of it is done, how fast it goes, how long it will take."""

import time

from cluster.job_run import JobRun


class Rate:
    """Reports to the run while a step does ``total`` units between ``start`` and ``stop`` of the run's whole."""

    def __init__(self, job: JobRun, start: float, stop: float, doing: str, total: float, unit: str) -> None:
        self._job, self._start, self._stop = job, start, stop
        self._doing, self._total, self._unit = doing, total, unit
        self._done = 0.0
        self._began = time.monotonic()
        job.progress(start, f"{doing} {total:.1f} {unit}" if total else doing)

    def add(self, amount: float, **metrics: float) -> None:
        """So much more is done."""
        self._done += amount
        took = max(1e-9, time.monotonic() - self._began)
        share = min(1.0, self._done / self._total) if self._total else 1.0
        left = took * (1 - share) / share if share else 0.0
        message = (
            f"{self._doing} {self._done:.1f} of {self._total:.1f} {self._unit}, {self._done / took:.2f} {self._unit}/s, "
            f"{int(left) // 60}:{int(left) % 60:02} left"
        )
        self._job.progress(self._start + (self._stop - self._start) * share, message, **metrics)
