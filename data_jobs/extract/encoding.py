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
