"""What is expected of an answer, as far as it can be checked without a model: texts. JSON schemas are ``schemas``'."""

from collections.abc import Sequence

from cluster.domain.patterns import compiled
from cluster.domain.validation import citations


def normalised(text: str) -> str:
    """Text for exact comparison: surrounding and repeated white space folded, case kept."""
    return " ".join(text.split())


def printable(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON can carry and no file can."""
    return text.encode("utf-8", "replace").decode()


def uncited(answer: str, expected: str) -> str:
    """The answer, normalised, without citations such as ``[1]`` unless the expectation itself cites: which number a passage got is
    retrieval's doing."""
    said = normalised(answer)
    return said if citations(expected) else normalised(compiled(r"\s*\[\d{1,3}\]").sub("", said))


def is_one_of(answer: str, expected: Sequence[str]) -> bool:
    """Whether the answer is one of the texts, white space aside."""
    return any(uncited(answer, one) == normalised(one) for one in expected)


def holds_one_of(answer: str, expected: Sequence[str]) -> bool:
    """Whether one of the texts stands in the answer, case aside."""
    return any(normalised(one).lower() in uncited(answer, one).lower() for one in expected)
