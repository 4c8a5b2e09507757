"""What a file really is: decided by its content where that speaks, else by its ending. Parses nothing but a ZIP archive's list of
members."""

import io
import json
import re
import zipfile
from collections.abc import Collection
from pathlib import PurePath

from data_jobs.extract.encoding import looks_binary
from data_jobs.extract.part import UnknownFormat

_HEAD = 8192
_BINARY = {".pdf", ".docx", ".zip", ".tar", ".tgz", ".gz", ".parquet"}
_PLAIN = {".txt", ".text"}
# No text begins like this; what else is binary is told by its bytes.
_UNREADABLE = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"\x7fELF": "a program",
    b"MZ": "a Windows program",
    b"\xca\xfe\xba\xbe": "a program",
    b"SQLite format 3": "a SQLite database",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"BZh": "a bzip2 file; unpack it",
    b"\xfd7zXZ": "an xz file; unpack it",
    b"\x28\xb5\x2f\xfd": "a zstd file; unpack it",
    b"\xd0\xcf\x11\xe0": "an encrypted or pre-2007 Office file",
}
_TEXT_OF_NO_USE = {b"{\\rtf": "an RTF document; save it as .docx", b"%!PS": "a PostScript file; convert it to PDF"}
_OFFICE = {
    "xl/workbook.xml": "an Excel workbook; save its sheets as CSV",
    "ppt/presentation.xml": "a PowerPoint presentation; save it as PDF",
    "content.xml": "an OpenDocument file; save it as .docx or PDF",
}
_HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}>\s*)?<(?:!doctype\s+html|html[\s>])", re.IGNORECASE)


def ending_of(name: str, data: bytes, known: Collection[str]) -> str:
    """The ending in ``known`` whose extractor reads this content. Raises UnknownFormat when there is none.

    A text format's own ending is believed (nothing else tells Markdown from CSV); text of any other ending is plain text, unless it
    is HTML or JSON lines.
    """
    path = PurePath(name)
    ending = ".tgz" if path.name.lower().endswith(".tar.gz") else path.suffix.lower()
    head = data[:_HEAD]
    proven = proven_ending(data)
    if proven in known:
        return proven
    if ending in known:
        return ".html" if ending in _BINARY | _PLAIN and _HTML.match(head) else ending
    useless = next((what for magic, what in _TEXT_OF_NO_USE.items() if head.startswith(magic)), "")
    if useless or looks_binary(head):
        what = useless or next((said for magic, said in _UNREADABLE.items() if head.startswith(magic)), "binary")
        raise UnknownFormat(
            f"the content is {what} and the ending '{path.suffix}' is not known; known are {', '.join(sorted(known))}"
        )
    return _kind_of_text(head)


def proven_ending(data: bytes) -> str:
    """The ending that the bytes prove, or nothing. Raises UnknownFormat on an Office file that nobody here reads."""
    head = data[:_HEAD]
    if head.startswith(b"PK\x03\x04"):
        return _zipped(data)
    if head.startswith(b"PAR1"):
        return ".parquet"
    if head.startswith(b"\x1f\x8b\x08"):
        return ".tgz"
    if head[257:262] == b"ustar":
        return ".tar"
    return ".pdf" if head.lstrip()[:5] == b"%PDF-" else ""


def _zipped(data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return ""
    if any(name.startswith("word/") for name in names) and "[Content_Types].xml" in names:
        return ".docx"
    what = next((what for member, what in _OFFICE.items() if member in names), "")
    if what and names & {"[Content_Types].xml", "mimetype"}:
        raise UnknownFormat(f"the content is {what}")
    return ".zip"


def _kind_of_text(head: bytes) -> str:
    if _HTML.match(head):
        return ".html"
    lines = head.split(b"\n")[:-1][:8]
    return ".jsonl" if len(lines) > 1 and all(map(_is_object, lines)) else ".txt"


def _is_object(line: bytes) -> bool:
    try:
        return line.lstrip()[:1] == b"{" and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
