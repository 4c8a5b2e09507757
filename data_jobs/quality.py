"""Quality by published thresholds: the rules of Gopher (Rae et al. 2021, arXiv:2112.11446, A1.1) and of C4 (Raffel et al. 2020).

They were made for prose from the web, by counting words and lines. Technical documents (code, tables, commands) fail them and are none
the worse for it, so a recipe has to ask for them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

_STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
_BULLET = re.compile(r"[ \t]*[-*+•‣◦▪]")
_PARAGRAPHS = re.compile(r"\n{2,}")
# Gopher, table A1: n, and the largest share of characters that may lie in the most frequent n-gram, or in n-grams that repeat.
_TOP_NGRAMS = ((2, 0.20), (3, 0.18), (4, 0.16))
_REPEATED_NGRAMS = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))


def poor(text: str) -> str:
    """The first rule the text fails, as a reason (``quality_…``); "" when it fails none."""
    words, lines = text.split(), [line for line in text.split("\n") if line.strip()]
    return next((f"quality_{name}" for name, failed in _rules(text, words, lines) if failed), "")


def _rules(text: str, words: Sequence[str], lines: Sequence[str]) -> Iterable[tuple[str, bool]]:
    count = max(1, len(words))
    yield "word_count", not 50 <= len(words) <= 100_000
    yield "word_length", not 3 <= sum(map(len, words)) / count <= 10
    yield "symbols", max(text.count("#"), text.count("…") + text.count("...")) / count > 0.1
    yield "bullets", sum(map(bool, map(_BULLET.match, lines))) > 0.9 * len(lines)
    yield "ellipses", sum(line.rstrip().endswith(("…", "...")) for line in lines) > 0.3 * len(lines)
    yield "letters", sum(any(map(str.isalpha, word)) for word in words) < 0.8 * count
    yield "stop_words", len(_STOP_WORDS.intersection(word.strip(".,;:!?\"'()").lower() for word in words)) < 2
    yield "lorem_ipsum", "lorem ipsum" in text.lower()
    yield "repeated_lines", _repeated(lines, 0.30, 0.20)
    yield "repeated_paragraphs", _repeated([part for part in _PARAGRAPHS.split(text) if part.strip()], 0.30, 0.20)
    letters = max(1, sum(map(len, words)))
    for size, most in _TOP_NGRAMS:
        yield f"top_{size}_gram", _top_share(words, size) > most * letters
    for size, most in _REPEATED_NGRAMS:
        share = _repeated_share(words, size)
        yield f"repeated_{size}_grams", share > most * letters
        if not share:  # then no longer one repeats
            return


def _repeated(parts: Sequence[str], most_parts: float, most_characters: float) -> bool:
    """Whether too large a share of the parts, or of their characters, says again what an earlier part said."""
    again = Counter(parts)
    parts_again = sum(number - 1 for number in again.values())
    characters_again = sum((number - 1) * len(part) for part, number in again.items())
    return parts_again > most_parts * len(parts) or characters_again > most_characters * sum(map(len, parts))


def _grams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[start:] for start in range(size)), strict=False))


def _top_share(words: Sequence[str], size: int) -> int:
    """Characters in the most frequent n-gram, over all its occurrences; 0 when none occurs twice."""
    counts = Counter(_grams(words, size))
    top, times = max(counts.items(), key=lambda item: (item[1], sum(map(len, item[0]))), default=((), 0))
    return times * sum(map(len, top)) if times > 1 else 0


def _repeated_share(words: Sequence[str], size: int) -> int:
    """Characters in words that lie in an n-gram that was there before, each counted once."""
    seen: set[tuple[str, ...]] = set()
    covered, characters = 0, 0
    for place, gram in enumerate(_grams(words, size)):
        if gram in seen:
            characters += sum(map(len, words[max(covered, place) : place + size]))
            covered = place + size
        seen.add(gram)
    return characters
