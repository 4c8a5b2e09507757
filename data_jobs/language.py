"""The language of a text, where the text is long enough to judge."""

from functools import cache
from typing import Any

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


def certain_language(text: str, least: float) -> str | None:
    """ISO 639-1 code where the model gives it a probability of ``least`` or more, however short the text; None otherwise."""
    language, probability = _normalised().classify(text)
    return str(language) if probability >= least else None


@cache
def _normalised() -> Any:
    """The same model, giving probabilities: some 10 times as slow as the bare scores."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def known_languages() -> frozenset[str]:
    """The codes that ``language_of`` can give."""
    return frozenset(name for name, _ in py3langid.rank("a"))
