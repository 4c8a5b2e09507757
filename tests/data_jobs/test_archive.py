"""Archives: each member by its own extractor, and every trick with names, sizes and nesting set aside."""

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from typing import Any

import pytest

from data_jobs.extract import archive, read
from data_jobs.extract.part import Part, Unreadable


def zipped(*named: tuple[str, bytes | str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in named:
            made.writestr(name, data)
    return packed.getvalue()


def tarred(*named: tuple[str, bytes], mode: Any = "w", **kinds: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as made:
        for name, data in named:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
        for name, kind in kinds.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            made.addfile(info)
    return packed.getvalue()


def outcomes(name: str, data: bytes) -> dict[str, str]:
    return {part.name: part.reason if part.problem else part.text for part in read(name, data)}


def test_members_are_read_by_their_own_extractors(files: Any) -> None:
    pdf = files.pdf("a.pdf", [["Ring twice."]]).read_bytes()
    made = zipped(
        ("docs/rules.md", "# House rules\n\nNo noise."),
        ("docs/deep/er/a.pdf", pdf),
        ("page.html", "<p>Hello there.</p>"),
        ("LICENSE", "Free."),
    )
    parts = {part.name: part for part in read("all.zip", made)}
    assert {name: part.text.strip() for name, part in parts.items()} == {
        "docs/rules.md": "# House rules\n\nNo noise.",
        "docs/deep/er/a.pdf": "Ring twice.",
        "page.html": "Hello there.",
        "LICENSE": "Free.",
    }
    assert [part.media_type for part in parts.values()] == ["text/markdown", "application/pdf", "text/html", "text/plain"]
    assert [part.title for part in parts.values()] == ["House rules", "a", "page", "LICENSE"]


def test_records_of_a_member_carry_its_name() -> None:
    def rows(name: str, data: bytes, options: Any) -> list[Part]:
        return [Part(text=line, name=f"row {number}") for number, line in enumerate(data.decode().split(), 1)]

    extract = archive.extractor(".zip", rows)
    assert [part.name for part in extract(zipped(("a/b.csv", "x y")), archive.Options())] == ["a/b.csv row 1", "a/b.csv row 2"]


def test_hidden_files_directories_and_what_systems_leave_are_left_out() -> None:
    made = zipped(
        ("__MACOSX/._a.md", "x"),
        (".DS_Store", "x"),
        (".git/config", "x"),
        ("dir/", ""),
        ("dir/Thumbs.db", "x"),
        ("./a.txt", "kept"),
    )
    assert outcomes("a.zip", made) == {"a.txt": "kept"}
    assert outcomes("a.tar", tarred((".git/config", b"x"), ("./a.txt", b"kept"))) == {"a.txt": "kept"}


@pytest.mark.parametrize(
    "name", ["../up.txt", "/etc/passwd", "a/../../b.txt", "C:\\windows\\x.txt", "..\\up.txt", "bell\x07.txt"]
)
def test_a_name_that_leads_out_is_set_aside(name: str) -> None:
    found = outcomes("a.zip", zipped((name, "bad"), ("good.txt", "good")))
    assert found.pop("good.txt") == "good"
    assert list(found.values()) == ["unsafe_name"]
    assert "\x07" not in next(iter(found))


def test_links_and_devices_are_set_aside() -> None:
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        made.writestr(link, "/etc/passwd")
        made.writestr("a.txt", "text")
    assert outcomes("a.zip", packed.getvalue()) == {"link.txt": "not_a_file", "a.txt": "text"}
    made_tar = tarred(("a.txt", b"text"), link=tarfile.SYMTYPE, hard=tarfile.LNKTYPE, null=tarfile.CHRTYPE, pipe=tarfile.FIFOTYPE)
    assert outcomes("a.tar", made_tar) == {"a.txt": "text"} | dict.fromkeys(("link", "hard", "null", "pipe"), "not_a_file")


def test_an_encrypted_member_is_named() -> None:
    made = bytearray(zipped(("secret.txt", "x"), ("open.txt", "open")))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        made[made.find(signature) + flags] |= 1
    assert outcomes("a.zip", bytes(made)) == {"secret.txt": "encrypted", "open.txt": "open"}


def test_what_nobody_can_read_is_set_aside_by_member() -> None:
    made = zipped(
        ("a.png", b"\x89PNG\r\n\x1a\n\0\0"), ("torn.pdf", b"%PDF-1.7"), ("nul.txt", b"a\0b"), ("a.txt", "text"), ("empty.txt", "")
    )
    assert outcomes("a.zip", made) == {
        "a.png": "unknown_format",
        "torn.pdf": "corrupt",
        "nul.txt": "not_text",
        "a.txt": "text",
        "empty.txt": "",
    }


def test_a_member_whose_bytes_are_damaged_costs_itself() -> None:
    made = bytearray(zipped(("bad.txt", "one text that is here"), ("good.txt", "another")))
    made[made.find(b"bad.txt") + 10] ^= 0xFF
    assert outcomes("a.zip", bytes(made)) == {"bad.txt": "corrupt", "good.txt": "another"}


def test_one_archive_inside_is_opened_and_none_in_that() -> None:
    inner = zipped(("a.md", "inner"), ("deeper.zip", zipped(("b.md", "x"))))
    made = zipped(("in.zip", inner), ("torn.zip", inner[:-30]), ("t.tar", tarred(("c.txt", b"tar"))), ("d.txt", "outer"))
    assert outcomes("a.zip", made) == {
        "in.zip/a.md": "inner",
        "in.zip/deeper.zip": "nested_archive",
        "torn.zip": "corrupt",
        "t.tar/c.txt": "tar",
        "d.txt": "outer",
    }


def test_two_members_of_one_name_stay_two() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        made = zipped(("a.txt", "one"), ("a.txt", "two"))
    assert outcomes("a.zip", made) == {"a.txt": "one", "a.txt (2)": "two"}


def test_bombs_are_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = b"\0" * (17 << 20)
    assert outcomes("a.zip", zipped(("bomb.txt", zeros), ("a.txt", "text"))) == {"bomb.txt": "memory", "a.txt": "text"}
    assert outcomes("a.gz", gzip.compress(zeros)) == {"content": "memory"}
    monkeypatch.setattr(archive, "_MOST_BYTES", 10)
    assert outcomes("a.zip", zipped(("a.txt", "12345678"), ("b.txt", "12345678"), ("c.txt", "1"))) == {
        "a.txt": "12345678",
        "b.txt": "memory",
        "c.txt": "1",
    }
    monkeypatch.setattr(archive, "_MOST_MEMBERS", 1)
    assert outcomes("a.zip", zipped(("a.txt", "1"), ("b.txt", "1"), ("c.txt", "1"))) == {"a.txt": "1", "the rest": "memory"}


def test_a_size_that_lies_gives_no_more_than_it_says() -> None:
    made = bytearray(zipped(("a.txt", b"x" * 1000), ("b.txt", "text")))
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", made, made.find(signature) + place, 10)
    assert outcomes("a.zip", bytes(made)) == {"a.txt": "corrupt", "b.txt": "text"}


def test_members_that_share_bytes_refuse_the_archive() -> None:
    made = bytearray(zipped(("a.txt", b"x" * 100), ("b.txt", b"y" * 100)))
    second = made.rfind(b"PK\x01\x02")
    struct.pack_into("<I", made, second + 42, 5)
    with pytest.raises(Unreadable, match="overlap"):
        read("a.zip", bytes(made))


def test_a_broken_archive_says_so() -> None:
    whole = zipped(("a.txt", "text"))
    for data in (whole[:-20], b"PK\x03\x04", b"no archive"):
        with pytest.raises(Unreadable, match="cannot be opened"):
            read("a.zip", data)


def test_tar_and_gzip_go_the_same_way() -> None:
    named = (("a/b.md", b"# T"), ("c.txt", b"plain"))
    for name, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("unnamed", "w:gz")):
        assert outcomes(name, tarred(*named, mode=mode)) == {"a/b.md": "# T", "c.txt": "plain"}
    packed = io.BytesIO()
    with gzip.GzipFile("notes.md", "wb", fileobj=packed) as single:
        single.write(b"# Notes")
    assert outcomes("notes.md.gz", packed.getvalue()) == {"notes.md": "# Notes"}
    assert outcomes("x.gz", gzip.compress(b"one ") + gzip.compress(b"two")) == {"content": "one two"}


def test_a_torn_tar_gives_what_came_before_the_tear() -> None:
    whole = tarred(("a.txt", b"first"), ("b.txt", b"x" * 5000))
    assert outcomes("a.tar", whole[:3000]) == {"a.txt": "first", "b.txt": "corrupt", "the rest": "corrupt"}
    with pytest.raises(Unreadable, match="damaged"):
        read("a.tar", whole[:300])
    assert outcomes("a.gz", gzip.compress(b"text" * 100)[:-12]) == {"content": "corrupt"}
