"""Which extractor reads which ending: ``bytes → list[Part]``. Adding a format is one file and one line here."""

from collections.abc import Callable

from data_jobs.extract import arrow, csv, docx, html, jira_xml, json, jsonl, mail, md, parquet, pdf, txt
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
    ".json": ("application/json", json.extract),
    ".parquet": ("application/vnd.apache.parquet", parquet.extract),
    ".arrow": ("application/vnd.apache.arrow.stream", arrow.extract),
    ".eml": ("message/rfc822", mail.extract),
    ".mbox": ("application/mbox", mail.extract_mbox),
    ".xml": ("application/xml", jira_xml.extract),
}
"""Ending (lower case) → media type and extractor."""
