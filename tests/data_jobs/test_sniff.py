"""What a file is, when its ending is wrong, unknown or missing."""

import io
import random
import zipfile
from typing import Any

import pytest

from data_jobs.extract import FORMATS, read
from data_jobs.extract.part import Encrypted, UnknownFormat, Unreadable


def kind(name: str, data: bytes) -> str:
    """The media type by which that content under that name is read."""
    return read(name, data)[0].media_type


def office(*members: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for member in members:
            archive.writestr(member, "<x/>")
    return made.getvalue()


@pytest.mark.parametrize(
    "name", ["LICENSE", "Makefile", "notes.log", "a.rst", "a.py", "a.rs", "a.yaml", "a.tex", ".profile", "a.b.c"]
)
def test_text_of_any_ending_is_plain_text(name: str) -> None:
    for text in ("Grüße", "\ufeffall: build", "\x1b[31mred\x1b[0m\f", "x"):
        assert kind(name, text.encode()) == "text/plain"
    assert kind(name, "Grüße aus dem Haus".encode("cp1252")) == "text/plain"
    assert kind(name, "Many words of a log\n".encode("utf-16")) == "text/plain"


def test_content_outweighs_a_wrong_ending(files: Any) -> None:
    pdf = files.pdf("a.pdf", [["Ring twice."]]).read_bytes()
    word = files.docx("a.docx", lambda document: document.add_paragraph("Ring thrice.")).read_bytes()
    page = b"\n<!DOCTYPE html><html><body><p>Ring four times.</p></body></html>"
    for name in ("a.txt", "a.docx", "a.jsonl", "a", "a.bak"):
        assert kind(name, pdf) == "application/pdf"
        if name != "a.docx":
            assert kind(name, word) == FORMATS[".docx"][0]
    for name in ("a.txt", "a.pdf", "a.docx", "a", "a.php"):
        assert kind(name, page) == "text/html"
    assert kind("a.md", page) == "text/markdown"


def test_json_lines_are_told_where_the_ending_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, ".jsonl", ("application/jsonl", lambda data, options: FORMATS[".txt"][1](data, options)))
    assert kind("export", b'{"text": "a"}\n{"text": "b"}\n') == "application/jsonl"
    assert kind("export.txt", b'{"text": "a"}\n{"text": "b"}\n') == "text/plain"
    assert kind("export", b'{"text": "a"}\nnot json\n') == "text/plain"
    assert kind("export", b"[1]\n[2]\n") == "text/plain"


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n\0\0", "a PNG image"),
        ("a", b"\x7fELF\x02\x01\x01\0\0", "a program"),
        ("a.exe", b"MZ\x90\0\x03\0", "a Windows program"),
        ("a.bin", random.Random(2).randbytes(3000).replace(b"\0", b"\1"), "binary"),
        ("a.rtf", b"{\\rtf1 text}", "an RTF document; save it as .docx"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500, "an encrypted or pre-2007 Office file"),
        ("a.xlsx", office("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook; save its sheets as CSV"),
        ("a.docx", office("[Content_Types].xml", "ppt/presentation.xml"), "a PowerPoint presentation"),
        ("a.odt", office("mimetype", "content.xml"), "an OpenDocument file"),
    ],
)
def test_what_nobody_here_reads_is_named(name: str, data: bytes, what: str) -> None:
    with pytest.raises(UnknownFormat, match=what.replace("(", r"\(")):
        read(name, data)


def test_a_known_ending_is_left_to_its_own_extractor() -> None:
    with pytest.raises(Unreadable, match="the PDF cannot be opened"):
        read("a.pdf", b"not a pdf")
    with pytest.raises(Encrypted):
        read("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500)
    assert kind("a.txt", b"About %PDF-1.7 and its kin") == "text/plain"
    assert kind("a.zip", office("readme.txt")) == "text/plain"


def test_nothing_is_a_document_without_text() -> None:
    for name in ("a.bin", "a", "a.pdf", "a.zip"):
        (part,) = read(name, b"")
        assert (part.text, part.problem) == ("", "")
    assert kind("a.pdf", b"") == "application/pdf"
    assert kind("a", b"") == "text/plain"
    assert [part.text for part in read("a.zip", b"PK\x05\x06" + b"\0" * 18)] == [""]
