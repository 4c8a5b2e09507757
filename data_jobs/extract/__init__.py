"""Which extractor reads which ending: ``bytes → list[Part]``. Adding a format is one file and one line here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePath

from data_jobs.extract import csv, docx, html, jsonl, md, pdf, sniff, txt
from data_jobs.extract.part import Options, Part

Extract = Callable[[bytes, Options], list[Part]]

FORMATS: dict[str, tuple[str, Extract]] = {
    ".txt": ("text/plain", txt.extract),
    ".text": ("text/plain", txt.extract),
    ".md": ("text/markdown", md.extract),
    ".markdown": ("text/markdown", md.extract),
    ".html": ("text/html", html.extract),
    ".htm": ("text/html", html.extract),
    ".pdf": ("application/pdf", pdf.extract),
    ".docx": ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", docx.extract),
    ".csv": ("text/csv", csv.extract),
    ".tsv": ("text/csv", csv.extract),
    ".jsonl": ("application/jsonl", jsonl.extract),
    ".ndjson": ("application/jsonl", jsonl.extract),
}
"""Ending (lower case) → media type and extractor."""


def read(name: str, data: bytes, options: Options = Options()) -> list[Part]:
    """The documents in a file of that name: its content decides who reads it. Where that is not what its ending says, every part
    tells its media type. Raises Unreadable."""
    ending = sniff.ending_of(name, data, FORMATS)
    media_type, extract = FORMATS[ending]
    parts = extract(data, options)
    if FORMATS.get(PurePath(name).suffix.lower(), ("",))[0] == media_type:
        return parts
    return [part if part.media_type else replace(part, media_type=media_type) for part in parts]
