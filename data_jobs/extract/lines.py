"""Bytes to lines, for formats in which one bad line must not cost the others."""

import io
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator

from data_jobs.extract.encoding import MAGIC, decode, guessed

# UTF-32's mark begins with UTF-16's, or with two NUL bytes.
_WHOLE = (BOM_UTF16_LE, BOM_UTF16_BE, b"\x00\x00", *MAGIC)
_ONE_IN = 20


def lines_of(data: bytes) -> Iterator[str]:
    """The lines with their ends; only a line feed ends one.

    Each line that is UTF-8 is read as that. The others are in one encoding: cp1252 where any line beyond ASCII is UTF-8 (a file
    put together of two), else the guess for the file; UTF-8 mixed with yet another encoding is not told apart. Single NUL bytes
    stay for the caller to see. Raises NotText, as ``decode`` does, on content that is no text.
    """
    if data.startswith(_WHOLE) or data.count(0) * _ONE_IN > len(data):
        yield from io.StringIO(decode(data), newline="\n")
        return
    others = ""
    for line in io.BytesIO(data[len(BOM_UTF8) :] if data.startswith(BOM_UTF8) else data):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError:
            others = others or _encoding_of_others(data)
            yield line.decode(others, errors="replace")


def _encoding_of_others(data: bytes) -> str:
    for line in io.BytesIO(data):
        if not line.isascii():
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                continue
            return "cp1252"
    return guessed(data.replace(b"\x00", b""))
