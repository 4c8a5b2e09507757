"""Finding documents that say the same: exactly (by digest) and nearly (by MinHash over word triples).

Decides on digests and signatures alone, so that texts need not be in one place: one kilobyte a document, on disk. What is held in memory
is a document's name and digest, and the keys of one band at a time.
"""

import math
import os
import sys
import tempfile
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from cluster.domain.documents import Dropped

PERMUTATIONS = 256
_SHORTEST = 30
_ROWS_AT_A_TIME = 8192
_COLUMN_BYTES = 32 << 20
_MISSED_AT_MOST = 1e-4
Named = tuple[str, bytes, int, str]
"""Source, digest, row of the signature (-1: none) and key of the readers."""
_APART = bytes(byte if byte >= 128 or chr(byte).isalnum() or byte == ord("_") else ord(" ") for byte in range(256))
"""ASCII that parts words becomes a space; three times as fast as a pattern, which all texts go through."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is needed to know a document again. ``signature`` is empty for texts too short to be compared by likeness. ``readers``: only
    documents of equal readers are duplicates, or who may read one of them would be left with neither."""

    source: str
    digest: str
    signature: bytes
    readers: str = ""


def signature(text: str) -> bytes:
    """The MinHash signature (uint32, little endian) of a text's word triples; empty below 30 words.

    In a shorter text one word, such as a number or a name, is often all that matters: such texts are only compared exactly.
    """
    from rensa import RMinHash

    words = text.casefold().encode("utf-8", "replace").translate(_APART).decode().split()
    if len(words) < _SHORTEST:
        return b""
    hashed = RMinHash(num_perm=PERMUTATIONS, seed=42)
    hashed.update(list(map(" ".join, zip(words, words[1:], words[2:], strict=False))))
    values = array("I", hashed.digest())
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def find_duplicates(prints: Iterable[Fingerprint], threshold: float) -> list[Dropped]:
    """Which documents to drop, each naming its kept twin. The first in order of source is kept.

    ``threshold`` is the Jaccard similarity of the sets of word triples from which two texts are near duplicates, estimated from the
    signatures with a standard error of at most 0.032 (Broder, "On the resemblance and containment of documents", 1997).
    """
    with tempfile.TemporaryFile() as file:
        names: list[Named] = []
        count = 0
        for one in prints:
            names.append((one.source, bytes.fromhex(one.digest), count if one.signature else -1, sys.intern(one.readers)))
            if one.signature:
                file.write(one.signature)
                count += 1
        file.flush()
        return list(_dropped(sorted(names), Signatures(file.fileno(), count), threshold))


class Signatures:
    """Signatures in a file, one after another. Read and not mapped: pages of a mapping count as this process's memory."""

    def __init__(self, file: int, count: int) -> None:
        self._file, self._count = file, count

    def __len__(self) -> int:
        return self._count

    def columns(self, width: int) -> Iterator[NDArray[np.uint32]]:
        """All signatures' values, ``width`` neighbouring columns at a time (n, width), with as many passes over the file as memory asks."""
        last = PERMUTATIONS - PERMUTATIONS % width
        step = max(1, _COLUMN_BYTES // max(1, self._count * width * 4)) * width
        for start in range(0, last, step):
            stop = min(last, start + step)
            held = np.empty((stop - start, self._count), dtype="<u4")
            for row in range(0, self._count, _ROWS_AT_A_TIME):
                held[:, row : row + _ROWS_AT_A_TIME] = self.rows(row, _ROWS_AT_A_TIME)[:, start:stop].T
            for column in range(0, stop - start, width):
                yield held[column : column + width].T

    def rows(self, first: int, count: int = 1) -> NDArray[np.uint32]:
        """Whole signatures from ``first`` on (count, 256)."""
        data = os.pread(self._file, 4 * PERMUTATIONS * count, 4 * PERMUTATIONS * first)
        return np.frombuffer(data, dtype="<u4").reshape(-1, PERMUTATIONS)


def _dropped(names: list[Named], signatures: Signatures, threshold: float) -> Iterator[Dropped]:
    """In order of source: a document is compared with those kept so far that share a band with it."""
    bands, rows = _bands(threshold)
    enough = _shared_at_least(bands, threshold**rows)
    buckets = _buckets(signatures, rows)
    kept_in: dict[int, list[int]] = defaultdict(list)
    source_of: dict[int, str] = {}
    readers_of: dict[int, str] = {}
    first_of: dict[tuple[bytes, str], str] = {}
    for source, digest, row, readers in names:
        text = (digest, readers)
        if text in first_of:
            yield Dropped(source=source, reason="exact_duplicate", of=first_of[text])
            continue
        first_of[text] = source
        mine = buckets[row] if row >= 0 else []
        shared = Counter(chain.from_iterable([kept_in[bucket] for bucket in mine if bucket in kept_in]))
        alike = [other for other, times in shared.items() if times >= enough and readers_of.get(other, "") == readers]
        twin = _nearest(signatures, row, alike, threshold)
        if twin is not None:
            yield Dropped(source=source, reason="near_duplicate", of=source_of[twin])
            first_of[text] = source_of[twin]  # whoever repeats a text that was dropped names the twin that was kept
            continue
        source_of[row] = source
        if readers:
            readers_of[row] = readers
        for bucket in mine:
            kept_in[bucket].append(row)


def _nearest(signatures: Signatures, row: int, candidates: list[int], threshold: float) -> int | None:
    if not candidates:
        return None
    others = np.array(sorted(candidates))
    likeness = np.mean(np.concatenate([signatures.rows(other) for other in others]) == signatures.rows(row), axis=1)
    best = int(np.argmax(likeness))
    return int(others[best]) if likeness[best] >= threshold else None


def _buckets(signatures: Signatures, rows: int) -> list[list[int]]:
    """For each row the buckets that it shares with another row. A bucket is a band and the values in it; alone in it is nobody's twin."""
    if len(signatures) < 2:
        return [[] for _ in range(len(signatures))]
    # A band's key is a sum with odd factors modulo 2^64: keys that are equal by chance only cost a comparison.
    factors = np.random.default_rng(42).integers(2**63, size=rows, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    members, buckets, number = [], [], 0
    for columns in signatures.columns(rows):
        keys = (columns.astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64) if rows > 1 else columns[:, 0].copy()
        order = np.argsort(keys)
        sorted_keys = keys[order]
        starts = np.flatnonzero(np.r_[True, sorted_keys[1:] != sorted_keys[:-1]])
        sizes = np.diff(np.r_[starts, len(keys)])
        together = np.repeat(sizes > 1, sizes)
        members.append(order[together])
        buckets.append(np.repeat(number + np.arange(len(sizes)), sizes)[together])
        number += len(sizes)
    every = np.concatenate(members)
    order = np.argsort(every, kind="stable")
    cuts = np.searchsorted(every[order], np.arange(1, len(signatures)))
    return [part.tolist() for part in np.split(np.concatenate(buckets)[order], cuts)]


def _bands(threshold: float) -> tuple[int, int]:
    """Bands and rows for locality-sensitive hashing: as many rows as miss a pair at the threshold with probability < 1e-4
    (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", 3.4.2: missed = (1 - s^rows)^bands)."""
    fitting = [rows for rows in range(1, 33) if (1 - threshold**rows) ** (PERMUTATIONS // rows) < _MISSED_AT_MOST]
    rows = max(fitting, default=1)
    return PERMUTATIONS // rows, rows


def _shared_at_least(bands: int, chance: float) -> int:
    """How many bands two texts at the threshold share at the least, but for a probability below 1e-4 (binomial). At a low threshold
    this spares comparing texts that share a band or two by chance."""
    missed, least = 0.0, 0
    while (missed := missed + math.comb(bands, least) * chance**least * (1 - chance) ** (bands - least)) < _MISSED_AT_MOST:
        least += 1
    return max(1, least)
