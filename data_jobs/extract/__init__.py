"""Which extractor reads which ending: ``bytes → list[Part]``. Adding a format is one file and one line here."""

from collections.abc import Callable

from data_jobs.extract import csv, docx, html, jsonl, md, pdf, txt
from data_jobs.extract.part import Part

FORMATS: dict[str, tuple[str, Callable[[bytes], list[Part]]]] = {
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
