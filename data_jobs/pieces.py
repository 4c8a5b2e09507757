"""Files to pieces of work: what one worker reads at a time, each known by what is in it.

A file is one piece, but JSON lines are cut at line ends, so that a file of any size is read in bounded memory. Pieces go into groups whose
borders depend on the pieces' own keys: a file more or less changes the groups next to it and no others.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from cluster.domain.base import digest_of

T = TypeVar("T")
LINES = {".jsonl", ".ndjson"}
SLICE_BYTES = 16 << 20
_BLOCK = 1 << 20
_BORDER = 64
"""One key in so many ends a group."""


class Piece(NamedTuple):
    """Bytes ``start`` to ``end`` of a file; ``first`` is the number of the first line. ``key`` is over the source's name, the content and
    how it is read."""

    key: str
    path: str
    source: str
    start: int
    end: int
    first: int


def pieces_of(files: Sequence[tuple[str, str]], how: str) -> list[Piece]:
    """The pieces of (path, source) pairs, in order. ``how`` names the way of reading: another way, other keys. A file that cannot be
    opened is a piece all the same; its reader says why."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # hashing lets go of the interpreter
        return [piece for found in pool.map(lambda one: list(_cut(*one, how)), files) for piece in found]


def _cut(path: str, source: str, how: str) -> Iterator[Piece]:
    lines = Path(path).suffix.lower() in LINES
    start, first = 0, 1
    try:
        with open(path, "rb") as file:
            while True:
                content, size, newlines = hashlib.sha256(), 0, 0
                for block in _blocks(file, SLICE_BYTES if lines else None):
                    content.update(block)
                    size += len(block)
                    newlines += block.count(b"\n") if lines else 0
                if size or not start:
                    made_of = [source, content.hexdigest(), first, how]
                    yield Piece(digest_of(made_of), path, source, start, start + size, first)
                if not size or not lines:
                    return
                start, first = start + size, first + newlines
    except OSError as error:
        yield Piece(digest_of([source, str(error.errno), how]), path, source, 0, 0, 1)


def _blocks(file: object, most: int | None) -> Iterator[bytes]:
    """Blocks up to ``most`` bytes and then to the end of the line; to the end of the file without a bound."""
    read, readline = file.read, file.readline  # type: ignore[attr-defined]
    done = 0
    while block := read(_BLOCK if most is None else min(_BLOCK, most - done)):
        yield block
        done += len(block)
        if most is not None and done >= most:
            while not block.endswith(b"\n") and (block := readline(_BLOCK)):
                yield block
            return


def grouped(
    items: Iterable[T], key: Callable[[T], str], size: Callable[[T], int], most_bytes: int, most: int
) -> Iterator[list[T]]:
    """Neighbours in groups of at most ``most`` items and about ``most_bytes``, with borders that depend on the keys."""
    group: list[T] = []
    total = 0
    for item in items:
        if group and (total + size(item) > most_bytes or len(group) >= most):
            yield group
            group, total = [], 0
        group.append(item)
        total += size(item)
        if int(key(item)[:8], 16) % _BORDER == 0:
            yield group
            group, total = [], 0
    if group:
        yield group


def group_key(keys: Iterable[str]) -> str:
    """What a group's results are kept under."""
    return digest_of(list(keys))[:32]
