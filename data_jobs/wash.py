"""Washing: the text of a document without what no reader would miss, and without what nobody else should read.

``washed`` changes no word. ``wash`` also masks personal data and secrets, takes running heads, notices of web sites, quoted replies and
signatures out, folds long logs, and drops what is too short, in another language or (when asked) poor prose. Washing a washed document
changes nothing.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from typing import Any

import re2

from cluster.domain.data_recipes import WashRecipe
from cluster.domain.documents import Document, Dropped, Kept
from cluster.errors import InvalidInput
from data_jobs.boilerplate import without_boilerplate
from data_jobs.language import known_languages, language_of
from data_jobs.logs import folded
from data_jobs.masking import Masker, check_masking
from data_jobs.quality import poor
from data_jobs.replies import REPLY_TYPES, own_words

_LINE_ENDS = "\x0b\x85\u2028\u2029"
_SPACES = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
# Control characters but tab, line feed and form feed; zero-width marks; soft hyphens; byte order marks; non-characters.
_UNSEEN = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufff9-\ufffc\ufffe\uffff"
)
_ODD = re2.compile(f"[{_LINE_ENDS}{_SPACES}{_UNSEEN}]+")
_AS_PLAIN = ((re.compile(f"[{_LINE_ENDS}]"), "\n"), (re.compile(f"[{_SPACES}]"), " "), (re.compile(f"[{_UNSEEN}]"), ""))
_UNSEEN_ASCII = bytes([*range(0x09), *range(0x0E, 0x20), 0x7F])
_LINE_TAILS = re.compile(r"(?<![ \t])[ \t]++(?=\n|\f|\Z)")
_BLANK_LINES = re.compile(r"\n{3,}")
_TABULAR = {"text/csv", "text/tab-separated-values", "application/json", "application/x-ndjson", "application/vnd.apache.parquet"}
_ROUNDS = 8


def washed(text: str) -> str:
    """NFC, line feeds only, plain spaces, nothing invisible, no trailing white space, at most one blank line in a row.

    Leading spaces stay: they are meaning in code and lists. A form feed (a page's end) stays, alone on its line; blank pages at the
    start and at the end go. Washing twice changes nothing, and the time is linear in the text.
    """
    text = _plain(text.replace("\r\n", "\n").replace("\r", "\n"))
    if " \n" in text or "\t\n" in text or " \f" in text or "\t\f" in text:
        text = _LINE_TAILS.sub("", text)
    if "\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n", text)
    if "\f" in text:
        text = "\n\f\n".join(page.strip("\n").rstrip() for page in text.split("\f")).strip("\n\f")
        text = text if "\n\n\n" not in text else _BLANK_LINES.sub("\n\n", text)
    return text.strip("\n").rstrip()


def _plain(text: str) -> str:
    if text.isascii():
        return text.replace("\x0b", "\n").encode().translate(None, _UNSEEN_ASCII).decode()
    data = text.encode(errors="ignore")  # lone surrogates go
    if _ODD.search(data):
        data = _ODD.sub(_as_plain, data)
    return unicodedata.normalize("NFC", data.decode())


def _as_plain(match: Any) -> bytes:
    run = match.group().decode()
    for pattern, plain in _AS_PLAIN:
        run = pattern.sub(plain, run)
    return run.encode()


def text_digest(text: str) -> str:
    """SHA-256 (hex) of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def wash(document: Document, min_chars: int, recipe: WashRecipe = WashRecipe()) -> Kept | Dropped:
    """The washed document, or why it is not worth keeping.

    Reasons: ``empty``; ``too_short`` for fewer visible characters than asked; ``other_language``; ``quality_…``. What was masked,
    folded or cut is counted in ``meta["washed"]``.
    """
    masker = Masker(recipe)
    counts: Counter[str] = Counter()
    masker.reserve(document.text)
    title = masker.mask(" ".join(washed(document.title).split()))[:200].rstrip()
    text = masker.mask(washed(document.text))
    for _ in range(_ROUNDS):  # what is cut may bring together what is cut in its turn
        shorter = _shortened(text, document.media_type, recipe, counts)
        if shorter == text:
            break
        text = shorter
    reason = _refusal(text, min_chars, recipe)
    if reason:
        return Dropped(source=document.source, reason=reason)
    meta = _masked_meta(document.meta, masker)
    counts.update(masker.counts)
    if counts.total():
        before = Counter(document.meta.get("washed") or {})
        meta["washed"] = {kind: number for kind, number in sorted((before + counts).items()) if number}
    return Kept(document=document.model_copy(update={"text": text, "title": title, "digest": text_digest(text), "meta": meta}))


def _shortened(text: str, media_type: str, recipe: WashRecipe, counts: Counter[str]) -> str:
    before = counts.total()
    text, lines = without_boilerplate(text, media_type)
    counts["boilerplate_lines"] += lines
    if recipe.replies and media_type in REPLY_TYPES:
        text, cut = own_words(text)
        counts.update(cut)
    if recipe.fold_from and media_type not in _TABULAR:
        text, lines = folded(text, recipe.fold_from)
        counts["folded_lines"] += lines
    return washed(text) if counts.total() > before else text


def check(recipe: WashRecipe) -> None:
    """Raises InvalidInput when this machine cannot do what the recipe asks; to be called before any work starts."""
    check_masking(recipe)
    unknown = sorted(set(recipe.languages) - known_languages()) if recipe.languages else []
    if unknown:
        known = ", ".join(sorted(known_languages()))
        raise InvalidInput(f"languages: '{unknown[0]}' is no language that can be told apart; give some of {known}.")


def _refusal(text: str, min_chars: int, recipe: WashRecipe) -> str:
    if not text:
        return "empty"
    if _visible(text[: 8 * min_chars]) < min_chars and _visible(text) < min_chars:
        return "too_short"
    if recipe.languages and language_of(text) not in (None, *recipe.languages):
        return "other_language"
    return poor(text) if recipe.quality == "gopher" else ""


def _visible(text: str) -> int:
    return sum(map(len, text.split()))


def _masked_meta(value: Any, masker: Masker) -> Any:
    if isinstance(value, str):
        return masker.mask(value)
    if isinstance(value, dict):
        return {key: part if key == "washed" else _masked_meta(part, masker) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_masked_meta(part, masker) for part in value]
    return value
