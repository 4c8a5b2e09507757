"""Texts that stand in other texts in their own words: what tells that an answer gives its prompt away. Retold in other words is not
found."""

import re

from cluster.domain.patterns import compiled

_WORD = re.compile(r"\w+")
_CANARY = r"\bcanary:\s*([A-Za-z0-9_-]{8,})"


def words(text: str) -> list[str]:
    """The text's words in lower case."""
    return _WORD.findall(text.lower())


def shingles(text: str, size: int) -> set[tuple[str, ...]]:
    """All runs of ``size`` words."""
    found = words(text)
    return {tuple(found[start : start + size]) for start in range(len(found) - size + 1)}


def holds_canary(answer: str, prompt: str) -> bool:
    """Whether the answer holds the canary of the prompt (a line ``canary: TOKEN`` in it)."""
    canary = compiled(_CANARY).search(prompt)
    return bool(canary) and canary.group(1).lower() in answer.lower()
