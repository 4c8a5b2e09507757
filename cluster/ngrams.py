"""Hashed n-grams of words and characters, which the router's head and the guard's classifier look at. Vectorised over many texts."""

import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint32]
Rows = NDArray[np.int64]
PRIME = np.uint32(16777619)
_SPACE = np.uint32(32)


@lru_cache(maxsize=1 << 15)
def word_key(word: str) -> int:
    """32 bits of a word."""
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))


def character_keys(texts: Sequence[str]) -> tuple[Rows, Keys]:
    """Every 3 to 5 characters that lie in one word and the blanks around it: the number of the text (n,) and a hash (n,), still to be
    ``mixed``. White space counts as one blank; one stands between texts, so none crosses over."""
    spaced = [f" {' '.join(text.split())} " for text in texts]
    codes = np.frombuffer("".join(spaced).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    row = np.repeat(np.arange(len(texts)), [len(one) for one in spaced])
    blank = codes == _SPACE
    rows: list[Rows] = []
    keys: list[Keys] = []
    for size in (3, 4, 5):
        count = len(codes) - size + 1
        if count < 1:
            break
        hashed = np.full(count, size, dtype=np.uint32)
        inside = row[:count] == row[size - 1 :]
        for place in range(size):
            hashed = hashed * PRIME + codes[place : place + count]
            if 0 < place < size - 1:
                inside &= ~blank[place : place + count]
        rows.append(row[:count][inside])
        keys.append(hashed[inside])
    if not rows:
        return np.empty(0, np.int64), np.empty(0, np.uint32)
    return np.concatenate(rows), np.concatenate(keys)


def mixed(keys: Keys) -> Keys:
    """Spreads the bits (the finaliser of MurmurHash3, Appleby 2011), so that a remainder of the key is a fair bucket."""
    keys = (keys ^ (keys >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    keys = (keys ^ (keys >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return keys ^ (keys >> np.uint32(16))
