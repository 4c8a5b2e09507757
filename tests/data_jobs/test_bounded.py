"""Extraction in a bounded process: a bad file costs itself alone. Real processes, real limits."""

import io
import os
import resource
import signal
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from data_jobs.extract import FORMATS, frames, server
from data_jobs.extract.bounded import Extractor
from data_jobs.extract.part import Encrypted, NotText, Options, OutOfMemory, Part, UnknownFormat, Unopened, Unreadable


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
        ("a.txt", b"%PDF-1.7", Unreadable),
        ("a.txt", b"one\x00two", NotText),
        ("a.exe", b"MZ\x90\x00\x03\x00", UnknownFormat),
        ("noending", bytes(range(256)), UnknownFormat),
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


def test_what_is_no_file_is_not_opened(extractor: Extractor, files: Any) -> None:
    os.mkfifo(files.root / "waits.txt")
    for path in (files.root / "waits.txt", files.root, Path("/dev/zero")):
        with pytest.raises(Unopened, match="no regular file"):
            extractor.extract(str(path))
    with pytest.raises(Unopened, match="null"):
        extractor.extract("a\x00b.txt")


def test_a_slice_is_read_alone(extractor: Extractor, files: Any) -> None:
    path = str(files.raw("a.log", "first\nsecond\nthird\n"))
    assert extractor.extract(path, 6, 13)[0].text == "second\n"
    assert extractor.extract(path, 13)[0].text == "third\n"
    assert extractor.extract(path, 6, 6)[0].text == ""


def test_a_file_larger_than_the_bound_is_refused_unread(files: Any) -> None:
    path = files.raw("a.txt", "")
    os.truncate(path, 65 << 20)
    small = Extractor(seconds=10, megabytes=64)
    with pytest.raises(OutOfMemory, match="it has 65 MB"):
        small.extract(str(path))
    assert small._server is None
    with pytest.raises(NotText):
        small.extract(str(path), 0, 100)
    small.close()


def test_many_files_come_from_one_child(files: Any) -> None:
    paths = [str(files.raw(f"{number}.txt", f"text {number}")) for number in range(20)]
    extractor = Extractor(seconds=10, megabytes=256)
    assert [extractor.extract(path)[0].text for path in paths[:10]] == [f"text {number}" for number in range(10)]
    assert extractor._server is not None
    (child,) = psutil.Process(extractor._server.pid).children()
    assert [extractor.extract(path)[0].text for path in paths[10:]] == [f"text {number}" for number in range(10, 20)]
    assert psutil.Process(extractor._server.pid).children() == [child]
    child.kill()
    assert extractor.extract(paths[0])[0].text == "text 0"
    extractor.close()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_odd_text_and_fields_come_through() -> None:
    part = Part("a\ud800\u2028\n\x00é", "t\n", "n", "p", "r", "m", {"k": [1, None, "ü"]})
    pipe = io.BytesIO(b"".join(frames.framed({"parts": [part, Part("")]})))
    assert frames.received(pipe) == {"parts": [part, Part("")]}
    assert frames.received(pipe) is None


def test_a_packed_bomb_is_stopped_and_the_next_one_read(files: Any) -> None:
    bomb = files.docx("bomb.docx", lambda document: document.add_paragraph("x"))
    with zipfile.ZipFile(bomb) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name, data in members.items():
            packed.writestr(
                name, data.replace(b"<w:t>x</w:t>", b"<w:t>" + b"x" * (40 << 20) + b"</w:t>") if "document" in name else data
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


def hang(data: bytes, options: Options) -> list[Part]:
    time.sleep(600)
    return []


def crash(data: bytes, options: Options) -> list[Part]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return []


def give_up(data: bytes, options: Options) -> list[Part]:
    raise IndexError("page tree")


def grow(data: bytes, options: Options) -> list[Part]:
    return [Part(text=str(len(bytearray(int(data) << 20))))]


KEPT: list[bytearray] = []


def leak(data: bytes, options: Options) -> list[Part]:
    KEPT.append(bytearray(int(data) << 20))
    return [Part(text=str(len(KEPT)))]


def write(data: bytes, options: Options) -> list[Part]:
    Path(data.decode()).write_bytes(b"x")
    return []


class Served:
    """The server's side, whose children know extractors that misbehave."""

    def __init__(self, files: Any) -> None:
        self.files = files
        self.child: server.Child | None = None

    def ask(self, ending: str, data: str, seconds: float = 20, megabytes: int = 256) -> str:
        """The text of a file with that ending and content, or the reason why there is none."""
        path = str(self.files.raw(f"a.{ending}", data))
        request = {"path": path, "start": 0, "end": None, "options": {}, "seconds": seconds, "megabytes": megabytes}
        answer, self.child = server._answered(request, self.child)
        got = frames.received(io.BytesIO(answer))
        assert got is not None
        return str(got["reason"] if "reason" in got else got["parts"][0].text)


@pytest.fixture
def served(files: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    for extract in (hang, crash, give_up, grow, leak, write):
        monkeypatch.setitem(FORMATS, f".{extract.__name__}", ("text/plain", extract))
    made = Served(files)
    yield made
    if made.child:
        made.child.end()


@pytest.mark.parametrize(
    ("bad", "seconds", "reason"), [("hang", 1, "timeout"), ("crash", 20, "crashed"), ("give_up", 20, "corrupt")]
)
def test_a_bad_file_costs_itself_alone(served: Served, bad: str, seconds: float, reason: str) -> None:
    assert served.ask("txt", "before") == "before"
    assert served.ask(bad, "x", seconds=seconds) == reason
    assert served.ask("txt", "after") == "after"
    assert served.ask(bad, "x", seconds=seconds) == reason


def test_each_file_has_its_own_processor_time() -> None:
    for _ in range(3):
        request = {"seconds": 1, "megabytes": 64}
        before = resource.getrlimit(resource.RLIMIT_CPU), resource.getrlimit(resource.RLIMIT_AS)
        try:
            server._limit(request)
            soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
            assert time.process_time() + 1 < soft < time.process_time() + 5
            assert hard == before[0][1]
        finally:
            resource.setrlimit(resource.RLIMIT_CPU, before[0])
            resource.setrlimit(resource.RLIMIT_AS, before[1])


def test_each_file_has_the_whole_memory_and_no_more(served: Served) -> None:
    assert served.ask("grow", "40", megabytes=200) == str(40 << 20)
    assert served.ask("grow", "900", megabytes=200) == "memory"
    assert served.ask("grow", "150", megabytes=200) == str(150 << 20)
    assert served.ask("grow", "150", megabytes=200) == str(150 << 20)


def test_a_child_that_grew_is_replaced(served: Served) -> None:
    assert [served.ask("leak", "90", megabytes=512) for _ in range(6)] == ["1", "2", "3", "1", "2", "3"]


def test_the_child_may_write_no_file(served: Served) -> None:
    target = served.files.root / "written"
    assert served.ask("write", str(target)) == "corrupt"
    assert not target.exists() or target.stat().st_size == 0
