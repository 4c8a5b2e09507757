"""What a mail's headers say, in Unicode, whatever they are encoded in and however wrong that is. Nothing here raises on bad headers."""

import codecs
import re
from datetime import datetime
from email.errors import HeaderParseError, MessageError
from email.header import decode_header
from email.message import Message
from email.utils import collapse_rfc2231_value, parsedate_to_datetime

_BROKEN = (ValueError, LookupError, TypeError, IndexError, AttributeError, AssertionError, MessageError, RecursionError)
_LONGEST = 2_000
_ONE_BYTE = re.compile(r"(?:ascii|iso8859|cp125|latin|koi8|mac|charmap)", re.IGNORECASE)
# Not for text from strangers: quadratic in the length, or escapes that make any character of plain ones.
_REFUSED = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined"}


def header(message: Message, name: str, parameter: str = "") -> str:
    """The header, or one parameter of it, on one line; "" when there is none. Cut at 2,000 characters."""
    try:
        found = message.get_param(parameter, "", name) if parameter else _raw(message, name)
        value = collapse_rfc2231_value(found, errors="replace") if isinstance(found, tuple) else str(found)
    except _BROKEN:
        return ""
    value = " ".join(_decoded(value[: 4 * _LONGEST]).split())
    if parameter:
        value = re.split(r"[/\\]", value)[-1]
    return value[:_LONGEST]


def date_of(message: Message) -> str:
    """The Date header in ISO 8601; "" when it is missing or no date."""
    try:
        return parsedate_to_datetime(header(message, "Date")).isoformat()
    except (*_BROKEN, OverflowError):
        return ""


def iso_of(date: str) -> str:
    """A date of RFC 5322 in ISO 8601; as it was when it is none."""
    try:
        found: datetime = parsedate_to_datetime(date)
    except (*_BROKEN, OverflowError):
        return date
    return found.isoformat()


def charset_text(part: Message) -> str:
    """The text of a part, in the character set it says, unless the bytes tell that this is not true."""
    try:
        payload = part.get_payload(decode=True)
        charset = part.get_content_charset("utf-8")
    except _BROKEN:
        payload, charset = None, "utf-8"
        if isinstance(part.get_payload(), str):
            payload = str(part.get_payload()).encode("utf-8", "surrogateescape")
    return in_charset(payload, charset).replace("\r\n", "\n") if isinstance(payload, bytes) else ""


def in_charset(data: bytes, charset: str) -> str:
    """The bytes as text. UTF-8 under the name of a set of single bytes is UTF-8; what is no such text at all is cp1252."""
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        name = "utf-8"
    single = _ONE_BYTE.match(name) is not None
    for one in ("utf-8" if single or name in _REFUSED else name, "cp1252" if name in ("ascii", "iso8859-1") else name, "utf-8"):
        if one not in _REFUSED:
            try:
                return data.decode(one)
            except (ValueError, LookupError):
                continue
    return data.decode("cp1252", errors="replace")


def _raw(message: Message, name: str) -> str:
    wanted = name.lower()
    return next((str(value) for key, value in message.raw_items() if key.lower() == wanted), "")


def _decoded(value: str) -> str:
    """A header's text with its encoded words (RFC 2047) decoded, and bytes beyond ASCII that stood there bare."""
    if "=?" not in value:
        return _bare(value)
    try:
        pieces = decode_header(_bare(value))
    except (HeaderParseError, *_BROKEN):
        return _bare(value)
    return "".join(piece if isinstance(piece, str) else _word(piece, charset) for piece, charset in pieces) or _bare(value)


def _word(piece: bytes, charset: str | None) -> str:
    return in_charset(piece, charset) if charset else piece.decode("raw_unicode_escape", errors="replace")


def _bare(value: str) -> str:
    return value if value.isascii() else in_charset(value.encode("utf-8", "surrogateescape"), "ascii")
