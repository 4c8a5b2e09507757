"""Which extractor reads which ending: ``bytes → list[Part]``. Adding a format is one file and one line here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePath

from data_jobs.extract import archive, arrow, csv, docx, html, jira_xml, json, jsonl, mail, md, parquet, pdf, sniff, txt
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
    ".json": ("application/json", json.extract),
    ".parquet": ("application/vnd.apache.parquet", parquet.extract),
    ".arrow": ("application/vnd.apache.arrow.stream", arrow.extract),
    ".eml": ("message/rfc822", mail.extract),
    ".mbox": ("application/mbox", mail.extract_mbox),
    ".xml": ("application/xml", jira_xml.extract),
}
"""Ending (lower case) → media type and extractor."""


def read(name: str, data: bytes, options: Options = Options()) -> list[Part]:
    """The documents in a file of that name, each with its media type, and one without text for an
    empty file: its content decides who reads it. Raises Unreadable."""
    if not data:
        return [Part(text="", media_type=FORMATS.get(PurePath(name).suffix.lower(), FORMATS[".txt"])[0])]
    media_type, extract = FORMATS[sniff.ending_of(name, data, FORMATS)]
    parts = extract(data, options) or [Part(text="")]
    return [part if part.media_type else replace(part, media_type=media_type) for part in parts]


ARCHIVES = {".zip": "application/zip", ".tar": "application/x-tar", ".tgz": "application/gzip", ".gz": "application/gzip"}
FORMATS |= {ending: (kind, archive.extractor(ending, read)) for ending, kind in ARCHIVES.items()}
