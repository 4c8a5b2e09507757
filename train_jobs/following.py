"""From a worker's report to the run's progress bar and curve.

Ray Train's controller is a process of its own, on the driver's machine: it appends each report to a file, and a thread of the driver
reads on. The controller so needs neither the catalog nor MLflow.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ray.train import Checkpoint, UserCallback

from cluster.job_run import JobRun

_SECONDS = 0.1
_PUBLISH_SECONDS = 5.0
_START_UP, _TRAINED = 0.1, 0.95  # of the progress bar
_NOT_FIGURES = ("step", "saved", "done", "dropped", "left_out", "rows", "failed", "repeated_steps")


Point = tuple[int, dict[str, float]]
Publish = Callable[[list[Point]], None]


class Recorder(UserCallback):
    """Appends rank 0's reports to a file, one JSON object a line. Runs in the controller."""

    def __init__(self, path: str) -> None:
        self._path = path

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        with open(self._path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(metrics[0]) + "\n")

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        with open(self._path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"lost": sorted(worker_exceptions)}) + "\n")


class Follower:
    """Reads the reports while ``with`` lasts, and tells ``publish`` of new points; afterwards ``last`` and ``failed`` hold what they said,
    and ``repeated`` how many steps were trained again."""

    def __init__(self, job: JobRun, path: Path, steps: int, publish: Publish) -> None:
        self._job, self._path, self._steps, self._publish = job, path, steps, publish
        self._read = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow-training", daemon=True)
        self._seen = 0  # the last step that was told of
        self._new: list[Point] = []
        self._published = 0.0
        self.last: dict[str, Any] = {}
        self.failed: str | None = None
        self.losses = 0
        self.repeated = 0

    def __enter__(self) -> "Follower":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._catch_up()
        self._tell()

    def _follow(self) -> None:
        while not self._over.wait(_SECONDS):
            self._catch_up()
            if time.monotonic() - self._published > _PUBLISH_SECONDS:
                self._tell()

    def _tell(self) -> None:
        points, self._new, self._published = self._new, [], time.monotonic()
        if points:
            self._publish(points)

    def _catch_up(self) -> None:
        if not self._path.exists():
            return
        with self._path.open(encoding="utf-8") as stream:
            stream.seek(self._read)
            new = stream.read()
        whole = new[: new.rfind("\n") + 1]
        self._read += len(whole.encode())
        for line in whole.splitlines():
            self._take(json.loads(line))
        if whole:
            self._show()

    def _take(self, report: dict[str, Any]) -> None:
        if "lost" in report:
            self.losses += 1
            return
        if "failed" in report:
            self.failed = str(report["failed"])
            return
        if "recalled" in report:  # what a killed worker may have told of, or not
            self._add(report["recalled"])
            return
        self.repeated += self._add(report.pop("points", ()))  # after a loss; the curve has them already
        self.last = report

    def _add(self, points: Iterable[dict[str, Any]]) -> int:
        """The new points among these to the curve; returns how many were not new."""
        known = 0
        for point in points:
            step = int(point.pop("step"))
            if step <= self._seen:
                known += 1
                continue
            self._seen = step
            self._new.append((step, {name: float(value) for name, value in point.items()}))
        return known

    def _show(self) -> None:
        if not self.last:
            return
        step = int(self.last["step"])
        share = _START_UP + (_TRAINED - _START_UP) * step / self._steps
        figures = {name: float(value) for name, value in self.last.items() if name not in _NOT_FIGURES}
        loss = f", loss {figures['loss']:.3f}" if "loss" in figures else ""
        again = f" (went on {self.losses}x after losing a worker)" if self.losses else ""
        self._job.progress(share, f"step {step} of {self._steps}{loss}{again}", **figures)
