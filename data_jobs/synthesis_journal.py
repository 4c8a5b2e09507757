"""What was asked and answered, on disk as it comes, so that a killed run goes on without asking (and paying) again.

One file for a corpus, model and way of asking. An entry is found by the content it was asked about, so a new version of the corpus asks
for its new passages alone; entries about passages that are gone are removed when the journal is opened, and what was forgotten in the
corpus is forgotten here.
"""

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from cluster.artifacts import write_whole
from cluster.domain.base import Frozen
from cluster.errors import Conflict
from data_jobs.synthesis_checks import Pair


class Entry(Frozen):
    """One finished question to a model. ``about`` is the passage's digest, ``key`` the whole question's. ``problem`` is the reason where
    no answer could be used."""

    key: str
    about: str
    pairs: tuple[Pair, ...] = ()
    score: int | None = None
    problem: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    requests: int = 1


class Journal:
    """The journal at ``path``, with the entries about ``present`` passages. Raises Conflict while another process has it open; close
    it."""

    def __init__(self, path: Path, present: Iterable[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = path.with_suffix(".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise Conflict(
                f"Another run asks the same model about the same corpus (journal {path.name}); wait for its end."
            ) from None
        self._entries: dict[str, Entry] = {}
        known, lines, whole = set(present), 0, True
        if path.is_file():
            with path.open("rb") as file:
                for line in file:
                    lines, whole = lines + 1, line.endswith(b"\n")
                    entry = _read(line)
                    if entry is not None and entry.about in known:
                        self._entries[entry.key] = entry
        if lines != len(self._entries) or not whole:
            write_whole(path, b"".join(entry.model_dump_json().encode() + b"\n" for entry in self._entries.values()))
        self._file = path.open("ab")

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Entry | None:
        """The entry of a question that was answered before."""
        return self._entries.get(key)

    def add(self, entry: Entry) -> Entry:
        """Keeps an entry: it is on disk when this returns."""
        self._file.write(entry.model_dump_json().encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._entries[entry.key] = entry
        return entry

    def close(self) -> None:
        """Closes the file, for others to open."""
        self._file.close()
        self._lock.close()


def _read(line: bytes) -> Entry | None:
    """An entry; None for a line that a kill tore."""
    try:
        return Entry.model_validate_json(line)
    except ValidationError:
        return None
