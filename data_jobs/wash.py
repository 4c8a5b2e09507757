"""Washing: the text of a document without what no reader would miss. Changes no word."""

import hashlib
import re
import unicodedata

from cluster.domain.documents import Document, Dropped, Kept
from cluster.domain.recipes import WashRecipe

_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_SPACES = re.compile(r"[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
# Control characters but tab and line feed; zero-width marks; soft hyphens; byte order marks; lone surrogates; non-characters.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e"
    r"\u2060\u2066-\u2069\ufeff\ud800-\udfff\ufff9-\ufffc\ufffe\uffff]"
)
_LINE_TAILS = re.compile(r"[ \t]+(?=\n|\Z)")
_BLANK_LINES = re.compile(r"\n{3,}")


def washed(text: str) -> str:
    """NFC, line feeds only, plain spaces, nothing invisible, no trailing white space, at most one blank line in a row.

    Leading spaces stay: they are meaning in code and lists. Washing twice changes nothing.
    """
    text = _UNSEEN.sub("", _SPACES.sub(" ", _LINE_ENDS.sub("\n", text)))
    text = _BLANK_LINES.sub("\n\n", _LINE_TAILS.sub("", unicodedata.normalize("NFC", text)))
    return text.strip("\n").rstrip()


def text_digest(text: str) -> str:
    """SHA-256 (hex) of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def wash(document: Document, min_chars: int, recipe: WashRecipe = WashRecipe()) -> Kept | Dropped:
    """The washed document, or why it is not worth keeping: ``empty``, or ``too_short`` for fewer visible characters than asked."""
    text = washed(document.text)
    visible = len("".join(text.split()))
    if not visible:
        return Dropped(source=document.source, reason="empty")
    if visible < min_chars:
        return Dropped(source=document.source, reason="too_short")
    title = " ".join(washed(document.title).split())[:200]
    return Kept(document=document.model_copy(update={"text": text, "title": title, "digest": text_digest(text)}))
