"""Results on disk as they come, so that an evaluation that was killed asks only what is missing.

One file for a release, the exact questions and the way of asking. Whoever asks the same at the same time gets a file of its own. A file
is removed when its evaluation is in the catalog; one that nobody came back for is removed after a week.
"""

import fcntl
import os
import time
from pathlib import Path

from pydantic import ValidationError

from cluster.domain.questions import QuestionResult

_KEPT_SECONDS = 7 * 24 * 3600.0


class AnswersJournal:
    """The journal ``key`` in ``folder``; ``run`` names the file that is used where another process holds the first. Close it."""

    def __init__(self, folder: Path, key: str, run: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        self._path = folder / f"{key}.jsonl"
        self._file = self._path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            self._path = folder / f"{key}-{run}.jsonl"
            self._file = self._path.open("ab")
        self.results: dict[str, QuestionResult] = {}
        lines = self._path.read_bytes().splitlines(keepends=True)
        for line in lines:
            try:
                result = QuestionResult.model_validate_json(line)
            except ValidationError:  # a kill tore the line
                continue
            self.results[result.question_id] = result
        if lines and not lines[-1].endswith(b"\n"):
            self._file.write(b"\n")

    def add(self, result: QuestionResult) -> None:
        """Keeps a result: it is on disk when this returns. Questions without an answer are not kept, they are asked again."""
        if not result.answered:
            return
        self._file.write(result.model_dump_json().encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.results[result.question_id] = result

    def close(self, done: bool) -> None:
        """Lets go of the file, and removes it when the evaluation is ``done``."""
        if done:
            self._path.unlink(missing_ok=True)
        self._file.close()


def _sweep(folder: Path) -> None:
    for path in folder.glob("*.jsonl"):
        try:
            if path.stat().st_mtime < time.time() - _KEPT_SECONDS:
                path.unlink()
        except FileNotFoundError:  # another process was faster
            continue
