"""How a text is cut for the classifier: a question whole and in windows, a passage in sentences.

An attack that stands in a long text must not be thinned out by what surrounds it; the highest score of any piece counts.
"""

import re
from collections import Counter
from typing import Sequence

WINDOW = 1200
"""Characters of a question that are looked at together."""
_SENTENCES = re.compile(r"[{}]+|<!--|-->|<[^<>]{1,200}>|(?<=[.!?:;])['\")\]]*\s+")
_LONGER = re.compile(r"[a-z]{4,}")
SHORTEST, LONGEST = 12, 400


def windows(text: str) -> list[str]:
    """The whole text and, where it is longer than ``WINDOW``, windows that overlap by half."""
    if len(text) <= WINDOW:
        return [text]
    half = WINDOW // 2
    return [text, *(text[start : start + WINDOW] for start in range(0, max(1, len(text) - half), half))]


def sentences(text: str) -> list[str]:
    """What stands between line breaks, tags, braces and ends of sentences; rows of a table stay whole, crumbs are left out, and what is
    too long is cut."""
    found = []
    for line in text.split("\n"):
        for piece in [line] if line.lstrip().startswith("|") else _SENTENCES.split(line):
            piece = piece.strip(" |'\"")
            found += [piece[start : start + LONGEST] for start in range(0, len(piece), LONGEST)]
    kept = [piece for piece in found if len(piece) >= SHORTEST]
    return kept or [text[:LONGEST]]


def form(pieces: Sequence[str]) -> list[list[float]]:
    """What of each sentence may be unlike the passage around it, (pieces, FORMS): whether it is a question, how many of its longer words
    stand elsewhere in the passage, and whether it is the first or last."""
    words = [set(_LONGER.findall(piece)) for piece in pieces]
    seen = Counter(word for one in words for word in one)
    rows = []
    for number, (piece, own) in enumerate(zip(pieces, words, strict=True)):
        shared = sum(seen[word] > 1 for word in own) / len(own) if own else 0.0
        rows.append([float("?" in piece), shared, float(number in (0, len(pieces) - 1))])
    return rows


FORMS = 3
