"""How long a piece of text is: in characters, or in tokens of the embedder, whose limit a passage should respect."""

from bisect import bisect_left
from functools import cache
from typing import Any, Protocol


class Ruler(Protocol):
    """Measures spans of the text it was given last."""

    def take(self, text: str) -> None:
        """Measure this text from now on."""

    def length(self, start: int, end: int) -> int:
        """How long the span is."""

    def reach(self, start: int, size: int) -> int:
        """The furthest end of a span from ``start`` that is at most ``size`` long."""

    def back(self, end: int, size: int) -> int:
        """The earliest start of a span to ``end`` that is at most ``size`` long."""


class Characters:
    """Lengths in characters."""

    def take(self, text: str) -> None:
        self._end = len(text)

    def length(self, start: int, end: int) -> int:
        return end - start

    def reach(self, start: int, size: int) -> int:
        return min(self._end, start + size)

    def back(self, end: int, size: int) -> int:
        return max(0, end - size)


class Tokens:
    """Lengths in tokens, without the marks that a model puts around a text. A token belongs to the span that it begins in."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def take(self, text: str) -> None:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        self._starts = [start for start, end in encoding.offsets if end > start]
        self._end = len(text)

    def length(self, start: int, end: int) -> int:
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def reach(self, start: int, size: int) -> int:
        last = bisect_left(self._starts, start) + size
        return self._starts[last] if last < len(self._starts) else self._end

    def back(self, end: int, size: int) -> int:
        first = bisect_left(self._starts, end) - size
        return self._starts[first] if first > 0 else 0


@cache
def tokens_of(embedder: str) -> Tokens:
    """The ruler of an embedder's tokens, opened once in each process."""
    from tokenizers import Tokenizer

    from cluster.embedding import model_directory

    tokenizer = Tokenizer.from_file(str(model_directory(embedder) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return Tokens(tokenizer)
