"""Bytes to text, for every format that is text."""

import codecs

from data_jobs.extract.part import NotText

# UTF-32's mark begins with UTF-16's, so it is looked for first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
MAGIC = {
    b"%PDF-": "a PDF file",
    b"PK\x03\x04": "a ZIP or Office file",
    b"\x1f\x8b": "a gzip file",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x7fELF": "a program",
    b"SQLite format 3": "a SQLite database",
}
_ENOUGH_TO_GUESS = 256
_HEAD = 8192
# What text has none of: control characters but tab, line feed, form feed, carriage return and escape (of coloured logs).
_CONTROL = bytes(code for code in range(32) if code not in b"\t\n\f\r\x1b") + b"\x7f"
_MUCH_CONTROL = 0.02
"""Random bytes have 11 %; the odd bell or backspace of a log is far below."""


def decode(data: bytes) -> str:
    """Byte order mark, then strict UTF-8, then charset-normalizer's guess on texts long enough to guess, then cp1252.

    Raises NotText on content that is no text in any of them.
    """
    for magic, what in MAGIC.items():
        if data.startswith(magic):
            raise NotText(f"the content is {what}, not text; give it the ending that fits")
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, errors="replace")
    if b"\x00" in data:
        raise NotText("the content has NUL bytes, so it is no text; convert it to UTF-8 or remove it")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        if _much_control(data[:_HEAD]):
            raise NotText("the content is binary, not text; give it the ending that fits or remove it") from None
        return data.decode(guessed(data), errors="replace")


def guessed(data: bytes) -> str:
    """The encoding of text that is not UTF-8: charset-normalizer's guess on the lines beyond ASCII if they are enough, else cp1252."""
    telling = b"\n".join(line for line in data.splitlines() if not line.isascii())[:200_000]
    if len(telling) >= _ENOUGH_TO_GUESS:
        from charset_normalizer import from_bytes

        guess = from_bytes(telling).best()
        if guess is not None:
            return guess.encoding
    return "cp1252"


def looks_binary(head: bytes) -> bool:
    """Whether the first bytes of a file are those of no text."""
    if any(head.startswith(mark) for mark, _ in _MARKS):
        return False
    return b"\x00" in head or _much_control(head)


def _much_control(head: bytes) -> bool:
    return len(head) - len(head.translate(None, _CONTROL)) > _MUCH_CONTROL * len(head)
