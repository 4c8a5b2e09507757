"""A text as an attacker meant it to be read: without hidden characters, look-alike letters and encodings.

Readings of one text: ``fold`` makes it plain, ``hidden`` finds what was encoded in it. Knows base64, hexadecimal, binary, percent and
HTML escapes, Unicode's tag characters, rot13, reversal, leetspeak and letters set apart; nothing of ciphers with a key.
"""

import base64
import binascii
import codecs
import html
import re
import unicodedata
from functools import lru_cache
from typing import Iterator
from urllib.parse import unquote

from cluster.domain.patterns import compiled

MOST_DECODED = 8
"""Encoded pieces of one text that are looked into."""

# Letters of other scripts that are drawn like a Latin one, by the Latin letter they pass for.
_LOOKALIKES = {
    "a": "аɑα", "b": "ƅЬ", "c": "сϲ", "d": "ԁ", "e": "еҽє", "f": "ϝ", "g": "ɡց", "h": "һհ", "i": "іıɩι", "j": "јϳ", "k": "κк", "l": "ӏⅼ",
    "m": "м", "n": "ոη", "o": "оοօσ", "p": "рρ", "q": "ԛզ", "r": "гᴦ", "s": "ѕꜱ", "t": "тτ", "u": "υսц", "v": "ѵν", "w": "ԝѡω",
    "x": "хχ", "y": "уүγ", "z": "ᴢ",
}  # fmt: skip
_LATIN_OF = {ord(drawn): latin for latin, several in _LOOKALIKES.items() for drawn in several}
_WORD = re.compile(r"[^\W\d_]+")
_BLANKS = re.compile(r"[^\S\n]+")
_HIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
# Found with RE2: the text may be written to make a backtracking search slow.
_BASE64 = r"[A-Za-z0-9+/_-]{20,}={0,2}"
_HEX = r"(?:(?:0x|\\x)?[0-9a-f]{2}[\s,]?){12,}"
_BINARY = r"(?:[01]{8}\s?){6,}"
_PERCENT = r"(?:[\w.-]*%[0-9a-f]{2}){6,}[\w.-]*"
_ENTITIES = r"(?:&#x?[0-9a-f]{1,6};){6,}"
_TAGS = "[\U000e0020-\U000e007e]{4,}"
_SPACED = re.compile(r"(?:\b\w[ .*_-]){4,}\w\b")
_SEPARATOR = re.compile(r"[ .*_-]")
_TOKEN = re.compile(r"[a-z0-9@$!|]+")
_UNLEET = str.maketrans("0134578@$!|", "oieastbasil")
# Stems that attacks need, backwards and in rot13: only a text that holds one is turned around.
_TURNED = re.compile(r"erongi|dragersid|noitcurtsni|tpmorp|drowssap|laever|metsys", re.IGNORECASE)
_ROT13 = re.compile(r"vtaber|qvfertneq|vafgehpgvba|cebzcg|cnffjbeq|erirny|flfgrz", re.IGNORECASE)


def readings(text: str) -> list[str]:
    """The folded text first, then what is hidden in it and its disguised readings, folded."""
    folded = fold(text)
    return [folded, *map(fold, hidden(text)), *disguised(folded)]


def fold(text: str) -> str:
    """Lower case, compatibility forms resolved, hidden characters and accents gone, look-alike letters as Latin ones, blanks single;
    lines stay."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", _HIDDEN.sub("", text))
        text = unicodedata.normalize("NFC", "".join(one for one in text if not unicodedata.combining(one)))
        text = _WORD.sub(lambda found: _latin(found.group()), text.lower())
    return _BLANKS.sub(" ", text.lower())


@lru_cache(maxsize=4096)
def _latin(word: str) -> str:
    """A word of two scripts, or one of look-alikes alone, in Latin letters. A word of an honest other script stays as it is."""
    if word.isascii():
        return word
    turned = word.translate(_LATIN_OF)
    return turned if turned.isascii() else word


def hidden(text: str) -> list[str]:
    """What the text says in an encoding, readable and not folded; at most ``MOST_DECODED`` pieces, each looked into once more."""
    found = list(_decoded(text))[:MOST_DECODED]
    for piece in list(found):
        found += _decoded(piece)
    return [piece for piece in found if _readable(piece)][:MOST_DECODED]


def _decoded(text: str) -> Iterator[str]:
    for pattern, decode in _DECODERS:
        for count, match in enumerate(compiled(pattern).finditer(text)):
            if count == MOST_DECODED:
                break
            said = decode(match.group())
            if said is not None and said != match.group() and all(one.isprintable() or one.isspace() for one in said):
                yield said


def disguised(folded: str) -> list[str]:
    """Other readings of a folded text that differ from it: leetspeak, letters set apart, reversed, rot13."""
    found = []
    straight = _TOKEN.sub(_straight, folded)
    if straight != folded:
        found.append(straight)
    closed = _SPACED.sub(lambda match: _SEPARATOR.sub("", match.group()), folded)
    if closed != folded:
        found.append(closed)
    if _TURNED.search(folded):
        found.append(folded[::-1])
    if _ROT13.search(folded):
        found.append(codecs.decode(folded, "rot13"))
    return found


def _straight(found: re.Match[str]) -> str:
    """A token of letters and digits together, its digits as the letters they stand for."""
    token = found.group()
    body = token.rstrip("!")
    if body.isalpha() or body.isdigit():
        return token
    return body.translate(_UNLEET) + token[len(body) :]


def _readable(said: str) -> bool:
    """Whether decoded bytes are language: mostly letters and blanks, with at least one blank."""
    likely = sum(one.isalpha() or one.isspace() for one in said)
    return len(said) >= 8 and likely >= 0.75 * len(said) and any(one.isspace() for one in said)


def _from_base64(piece: str) -> str | None:
    body = piece.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None


def _from_hex(piece: str) -> str | None:
    digits = re.sub(r"0x|\\x|[\s,]", "", piece)
    try:
        return bytes.fromhex(digits[: len(digits) // 2 * 2]).decode("utf-8")
    except ValueError:
        return None


def _from_binary(piece: str) -> str | None:
    bits = re.sub(r"\s", "", piece)
    try:
        return bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)).decode("utf-8")
    except ValueError:
        return None


def _from_tags(piece: str) -> str | None:
    return "".join(chr(ord(one) - 0xE0000) for one in piece)


_DECODERS = (
    (_BASE64, _from_base64),
    (_HEX, _from_hex),
    (_BINARY, _from_binary),
    (_PERCENT, unquote),
    (_ENTITIES, html.unescape),
    (_TAGS, _from_tags),
)
