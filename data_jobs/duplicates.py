"""Finding documents that say the same: exactly (by digest) and nearly (by MinHash over word triples).

Decides on digests and signatures alone, so that texts need not be in one place; one kilobyte a document.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cluster.domain.documents import Dropped

PERMUTATIONS = 256
_SHORTEST = 30
_MISSED_AT_MOST = 1e-4
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is needed to know a document again. ``signature`` is empty for texts too short to be compared by likeness."""

    source: str
    digest: str
    signature: bytes


def signature(text: str) -> bytes:
    """The MinHash signature (uint32, little endian) of a text's word triples; empty below 30 words.

    In a shorter text one word, such as a number or a name, is often all that matters: such texts are only compared exactly.
    """
    from rensa import RMinHash

    words = _WORD.findall(text.casefold())
    if len(words) < _SHORTEST:
        return b""
    hashed = RMinHash(num_perm=PERMUTATIONS, seed=42)
    hashed.update([" ".join(words[place : place + 3]) for place in range(len(words) - 2)])
    return np.array(hashed.digest(), dtype="<u4").tobytes()


def find_duplicates(prints: Iterable[Fingerprint], threshold: float) -> list[Dropped]:
    """Which documents to drop, each naming its kept twin. The first in order of source is kept.

    ``threshold`` is the Jaccard similarity of the sets of word triples from which two texts are near duplicates, estimated from the
    signatures with a standard error of at most 0.032 (Broder, "On the resemblance and containment of documents", 1997).
    """
    bands = _bands(threshold)
    by_digest: dict[str, str] = {}
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    kept: list[tuple[str, np.ndarray]] = []
    dropped: list[Dropped] = []
    for one in sorted(prints, key=lambda item: item.source):
        if one.digest in by_digest:
            dropped.append(Dropped(source=one.source, reason="exact_duplicate", of=by_digest[one.digest]))
            continue
        if one.signature:
            values = np.frombuffer(one.signature, dtype="<u4")
            keys = [(band, part.tobytes()) for band, part in enumerate(values[: bands[0] * bands[1]].reshape(bands))]
            twin = _nearest(values, {row for key in keys for row in buckets[key]}, kept, threshold)
            if twin is not None:
                dropped.append(Dropped(source=one.source, reason="near_duplicate", of=twin))
                continue
            for key in keys:
                buckets[key].append(len(kept))
            kept.append((one.source, values))
        by_digest[one.digest] = one.source
    return dropped


def _nearest(values: np.ndarray, candidates: set[int], kept: list[tuple[str, np.ndarray]], threshold: float) -> str | None:
    likeness = {row: float(np.mean(values == kept[row][1])) for row in candidates}
    best = max(sorted(likeness), key=likeness.__getitem__, default=None)
    return kept[best][0] if best is not None and likeness[best] >= threshold else None


def _bands(threshold: float) -> tuple[int, int]:
    """Bands and rows for locality-sensitive hashing: as many rows as miss a pair at the threshold with probability < 1e-4
    (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", 3.4.2: missed = (1 - s^rows)^bands)."""
    fitting = [rows for rows in range(1, 33) if (1 - threshold**rows) ** (PERMUTATIONS // rows) < _MISSED_AT_MOST]
    rows = max(fitting, default=1)
    return PERMUTATIONS // rows, rows
