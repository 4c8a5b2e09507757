"""What the classifier looks at: hashed words and characters, and the form of a text.

Two families of n-grams: words with pairs and triples (punctuation marks are words), and 3 to 5 characters within words, hashed into
``BUCKETS`` columns each (Weinberger et al., 2009, arXiv:0902.2206), weighted by tf-idf, each family of unit length in a row. Many rows
are counted in one go, because a window or a sentence of its own would cost more in calls than in work.
"""

import re
from typing import NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray

from cluster.ngrams import PRIME, Keys, character_keys, mixed, word_key

BUCKETS = 1 << 16
FAMILIES = 2
Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]
_TOKEN = re.compile(r"\w+|[^\w\s]")


class Counts(NamedTuple):
    """Of one family, over all texts: ``row`` and ``column`` (n,), each pair once, and how often it ``occurs`` (n,)."""

    row: Numbers
    column: Numbers
    occurs: Floats


class Sparse(NamedTuple):
    """Weighted features: ``row``, ``column`` (family * BUCKETS + bucket) and ``value`` (n,)."""

    row: Numbers
    column: Numbers
    value: Floats


def counts(texts: Sequence[str]) -> tuple[Counts, ...]:
    """The n-grams of folded texts, by family."""
    return _word_counts(texts), _character_counts(texts)


def weighted(counted: Sequence[Counts], rarity: Floats, rows: int) -> Sparse:
    """tf-idf with ``rarity`` (FAMILIES, BUCKETS), term frequency 1 + ln count; zero where the rarity is."""
    parts = []
    for family, (one, rare) in enumerate(zip(counted, rarity, strict=True)):
        value = (1 + np.log(one.occurs)) * rare[one.column]
        length = np.sqrt(np.bincount(one.row, value * value, minlength=rows))
        length[length == 0] = 1
        parts.append((one.row, one.column + family * BUCKETS, (value / length[one.row]).astype(np.float32)))
    return Sparse(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _counted(row: Numbers, keys: Keys) -> Counts:
    found, occurs = np.unique(row * BUCKETS + (mixed(keys) % BUCKETS).astype(np.int64), return_counts=True)
    return Counts(found // BUCKETS, found % BUCKETS, occurs.astype(np.float32))


def _word_counts(texts: Sequence[str]) -> Counts:
    words = [_TOKEN.findall(text) for text in texts]
    row = np.repeat(np.arange(len(texts)), [len(one) for one in words])
    keys = np.array([word_key(word[:64]) for one in words for word in one], dtype=np.uint32)
    pairs = keys[:-1] * PRIME + keys[1:]
    threes = pairs[:-1] * PRIME + keys[2:] + np.uint32(3)
    return _counted(
        np.concatenate([row, row[1:][row[:-1] == row[1:]], row[2:][row[:-2] == row[2:]]]),
        np.concatenate([keys, pairs[row[:-1] == row[1:]], threes[row[:-2] == row[2:]]]),
    )


def _character_counts(texts: Sequence[str]) -> Counts:
    return _counted(*character_keys(texts))
