"""The language of a text, where the text is long enough to judge."""

import py3langid

_ENOUGH = 200
_JUDGED = 5_000


def language_of(text: str) -> str | None:
    """ISO 639-1 code by langid's model (Lui and Baldwin, 2012); None for fewer than 200 letters in the first 5,000 characters.

    It judges the whole: a text in two languages gets the one with more of it. Code and tables count as what their words look like.
    The model is loaded once in a process, at the first call.
    """
    beginning = text[:_JUDGED]
    if sum(map(str.isalpha, beginning)) < _ENOUGH:
        return None
    return str(py3langid.classify(beginning)[0])


def known_languages() -> frozenset[str]:
    """The codes that ``language_of`` can give."""
    return frozenset(name for name, _ in py3langid.rank("a"))
