"""Extraction in a bounded process: a bad file costs itself alone. Real processes, real limits."""

import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from data_jobs.extract import bounded
from data_jobs.extract.bounded import Extractor
from data_jobs.extract.part import Crashed, Encrypted, NotText, OutOfMemory, TimedOut, UnknownFormat, Unopened, Unreadable


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    made = Extractor(seconds=20, megabytes=512)
    yield made
    made.close()


def test_a_good_file_comes_through(extractor: Extractor, files: Any) -> None:
    (part,) = extractor.extract(str(files.raw("a.txt", "Grüße")))
    assert part.text == "Grüße"


def test_an_empty_file_is_a_document_without_text(extractor: Extractor, files: Any) -> None:
    for name in ("a.txt", "a.pdf", "a.docx", "a.html"):
        assert [part.text for part in extractor.extract(str(files.raw(name, b"")))] == [""]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.pdf", b"not a pdf", Unreadable),
        ("a.docx", b"not a zip", Unreadable),
        ("a.txt", b"%PDF-1.7", NotText),
        ("a.exe", b"MZ", UnknownFormat),
        ("noending", b"text", UnknownFormat),
    ],
)
def test_a_bad_file_says_why(extractor: Extractor, files: Any, name: str, data: bytes, reason: type[Unreadable]) -> None:
    with pytest.raises(reason) as refused:
        extractor.extract(str(files.raw(name, data)))
    assert type(refused.value) is reason
    assert ";" in refused.value.message or "known are" in refused.value.message


def test_an_encrypted_pdf_keeps_its_reason_across_processes(extractor: Extractor, files: Any) -> None:
    with pytest.raises(Encrypted):
        extractor.extract(str(files.pdf("a.pdf", [["x"]], password="p")))


def test_a_file_that_went_away_says_so(extractor: Extractor, tmp_path: Path) -> None:
    with pytest.raises(Unopened, match="No such file"):
        extractor.extract(str(tmp_path / "gone.txt"))


def test_a_file_that_hangs_is_stopped_and_the_next_one_read(files: Any) -> None:
    fifo = files.root / "waits.txt"
    os.mkfifo(fifo)
    quick = Extractor(seconds=1, megabytes=256)
    began = time.monotonic()
    with pytest.raises(TimedOut, match="more than 1 s"):
        quick.extract(str(fifo))
    assert time.monotonic() - began < 15
    assert quick.extract(str(files.raw("a.txt", "still here")))[0].text == "still here"
    quick.close()


def test_a_memory_bomb_is_stopped_and_the_next_one_read(files: Any) -> None:
    bomb = files.docx("bomb.docx", lambda document: document.add_paragraph("x"))
    with zipfile.ZipFile(bomb) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name, data in members.items():
            packed.writestr(
                name, data.replace(b"<w:t>x</w:t>", b"<w:t>" + b"x" * (600 << 20) + b"</w:t>") if "document" in name else data
            )
    assert bomb.stat().st_size < 2 << 20
    small = Extractor(seconds=60, megabytes=200)
    with pytest.raises((OutOfMemory, Unreadable)) as refused:
        small.extract(str(bomb))
    assert isinstance(refused.value, OutOfMemory)
    assert small.extract(str(files.raw("a.txt", "still here")))[0].text == "still here"
    small.close()


def test_a_killed_server_is_started_again(files: Any) -> None:
    extractor = Extractor(seconds=10, megabytes=256)
    path = str(files.raw("a.txt", "text"))
    extractor.extract(path)
    assert extractor._server is not None
    psutil.Process(extractor._server.pid).kill()
    assert extractor.extract(path)[0].text == "text"
    extractor.close()


def test_closing_ends_the_server(files: Any) -> None:
    extractor = Extractor(seconds=10, megabytes=256)
    extractor.extract(str(files.raw("a.txt", "text")))
    assert extractor._server is not None
    pid = extractor._server.pid
    extractor.close()
    assert not psutil.pid_exists(pid)


def test_a_crashing_parser_is_named(files: Any) -> None:
    status = 9  # what waitpid gives for a child that died of signal 9
    assert bounded._refusal({"seconds": 1, "megabytes": 64}, late=False, status=status)["reason"] == Crashed.reason


def test_the_child_may_write_no_file(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = files.root / "written"

    def write(data: bytes) -> list[Any]:
        target.write_bytes(b"x" * 10)
        return []

    monkeypatch.setitem(bounded.FORMATS, ".txt", ("text/plain", write))
    answer = bounded._forked({"path": str(files.raw("a.txt", "text")), "seconds": 10, "megabytes": 4096})
    assert b'"reason"' in answer
    assert not target.exists() or target.stat().st_size == 0
