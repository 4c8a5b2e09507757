"""Masking: personal data and secrets in texts become placeholders such as ``[EMAIL_1]`` and ``[SECRET_2]``.

One value has one placeholder in everything that one ``Masker`` sees, and a placeholder that is already there is never given again.
It finds what has a form. It does not find names (see ``names``), addresses of streets, or a secret that looks like a word.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import re2

from cluster.domain.data_recipes import WashRecipe
from cluster.errors import InvalidInput
from data_jobs.credentials import FINDERS as SECRETS
from data_jobs.phones import GATE as PHONE
from data_jobs.phones import find_phones
from data_jobs.pii import FINDERS as FORMS
from data_jobs.pii import Found, bytes_view

_PLACEHOLDER = re.compile(r"\[(EMAIL|PHONE|IBAN|CARD|IP|SECRET|PERSON|LOCATION)_([0-9]{1,9})\]")
_RANK = {"secret": 0, "iban": 1, "card": 2, "email": 3, "ip": 4, "phone": 5, "person": 6, "location": 7}
_OPTIONS = re2.Options()
_OPTIONS.encoding = re2.Options.Encoding.LATIN1
_OPTIONS.max_mem = 64 << 20  # a set that runs out of memory finds nothing, so it gets eight times the default
_GATES = re2.Set.SearchSet(_OPTIONS)
_FINDERS: list[tuple[str, Callable[..., Iterator[Any]]]] = []
for _kind, _gate, _finder in (*(("secret", *pair) for pair in SECRETS), *FORMS, ("phone", PHONE, find_phones)):
    _GATES.Add(_gate)
    _FINDERS.append((_kind, _finder))
_GATES.Compile()
_ROUNDS = 8
_NEEDS_PRESIDIO = (
    'Masking of names (names: true) needs Presidio and an English model of spaCy: pip install "treadle[presidio]" and '
    "python -m spacy download en_core_web_lg, or leave names out of the recipe."
)


class Masker:
    """Masks one text after another with one numbering. ``counts`` says how many placeholders of each kind were put in."""

    def __init__(self, recipe: WashRecipe = WashRecipe()) -> None:
        self.recipe = recipe
        self.counts: Counter[str] = Counter()
        self._numbers: dict[tuple[str, str], int] = {}
        self._last: Counter[str] = Counter()

    def mask(self, text: str) -> str:
        """The text with placeholders. Masking it again changes nothing."""
        if len(text) < 4:
            return text
        self.reserve(text)
        found = self._found(text)
        if not found:
            return text
        # What a placeholder uncovers (half of an overlap, say) is on the same line: nothing is found across lines but key blocks.
        text, changed = self._replaced(text, found)
        lines = text.split("\n")
        for number in changed:
            for _ in range(_ROUNDS):
                found = self._found(lines[number])
                if not found:
                    break
                lines[number] = self._replaced(lines[number], found)[0]
        return "\n".join(lines)

    def reserve(self, text: str) -> None:
        """Never gives out a placeholder that is in this text."""
        if "_" in text and "[" in text:
            for kind, number in _PLACEHOLDER.findall(text):
                self._last[kind.lower()] = max(self._last[kind.lower()], int(number))

    def _found(self, text: str) -> list[Found]:
        placeholders = [match.span() for match in _PLACEHOLDER.finditer(text)] if "[" in text else []
        return _apart(self._find(text), placeholders)

    def _find(self, text: str) -> Iterator[Found]:
        view = bytes_view(text)
        for number in sorted(_GATES.Match(view) or ()):
            kind, finder = _FINDERS[number]
            if kind == "secret":
                yield from (Found(start, end, kind, text[start:end]) for start, end in finder(view))
            elif kind == "phone" and kind in self.recipe.mask:
                yield from finder(text, view, self.recipe.phone_regions)
            elif kind in self.recipe.mask:
                yield from finder(text, view)
        if self.recipe.names:
            yield from _find_names(text)

    def _replaced(self, text: str, found: Iterable[Found]) -> tuple[str, list[int]]:
        """The text with placeholders for what was found, and the numbers of the lines that have one."""
        pieces: list[str] = []
        changed: list[int] = []
        place = line = 0
        for one in found:
            number = self._numbers.get((one.kind, one.value))
            if number is None:
                self._last[one.kind] += 1
                number = self._numbers[one.kind, one.value] = self._last[one.kind]
            self.counts[one.kind] += 1
            line += text.count("\n", place, one.start)
            if not changed or changed[-1] != line:
                changed.append(line)
            pieces += (text[place : one.start], f"[{one.kind.upper()}_{number}]")
            place = one.end
        return "".join([*pieces, text[place:]]), changed


def masked(texts: Sequence[str], recipe: WashRecipe = WashRecipe()) -> list[str]:
    """The texts of one conversation, masked with one numbering."""
    masker = Masker(recipe)
    for text in texts:
        masker.reserve(text)
    return [masker.mask(text) for text in texts]


def check_masking(recipe: WashRecipe) -> None:
    """Raises InvalidInput when this machine cannot do what the recipe asks; to be called before any work starts."""
    if recipe.names:
        _analyzer()
    unknown = sorted(set(recipe.phone_regions) - _regions())
    if unknown:
        raise InvalidInput(f"phone_regions: there is no numbering plan for '{unknown[0]}'; give ISO 3166 codes such as US or DE.")


def _regions() -> set[str]:
    import phonenumbers

    return set(phonenumbers.SUPPORTED_REGIONS)


def _apart(found: Iterable[Found], placeholders: Sequence[tuple[int, int]]) -> list[Found]:
    """Without overlaps: of two that overlap, the surer kind stays, then the longer, then the earlier. What holds a placeholder goes."""
    kept: list[Found] = []
    passed = 0
    for one in sorted(found, key=lambda item: (item.start, -item.end)):
        while passed < len(placeholders) and placeholders[passed][1] <= one.start:
            passed += 1
        if passed < len(placeholders) and placeholders[passed][0] < one.end:
            continue
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
        elif (_RANK[one.kind], one.start - one.end) < (_RANK[kept[-1].kind], kept[-1].start - kept[-1].end):
            kept[-1] = one
    return kept


@cache
def _analyzer() -> Any:
    try:
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider

        model = [{"lang_code": "en", "model_name": "en_core_web_lg"}]
        import spacy

        if not spacy.util.is_package("en_core_web_lg"):  # Presidio would try to download it
            raise InvalidInput(_NEEDS_PRESIDIO)
        engine = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": model}).create_engine()
        return AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
    except ImportError as error:
        raise InvalidInput(_NEEDS_PRESIDIO) from error


def _find_names(text: str) -> Iterator[Found]:
    kinds = {"PERSON": "person", "LOCATION": "location"}
    covered = [match.span() for match in _PLACEHOLDER.finditer(text)]
    for one in _analyzer().analyze(text=text, language="en", entities=list(kinds)):
        if not any(start < one.end and one.start < end for start, end in covered):
            value = " ".join(text[one.start : one.end].split()).casefold()
            yield Found(one.start, one.end, kinds[one.entity_type], value)
