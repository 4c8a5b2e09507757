"""Local paths: names, links, what is no file, and datasets on disk."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import InvalidInput, NotFound
from cluster.settings import ROOT, SourcesSettings
from data_jobs.sources import Found, Gathered, gather


def found(*given: Any) -> Gathered:
    with tempfile.TemporaryDirectory() as spool:
        return gather([str(one) for one in given], Path(spool) / "spool", SourcesSettings())


def names(*given: Any) -> list[str]:
    return [one.source for one in found(*given).files]


def refusals(*given: Any) -> list[tuple[str, str]]:
    return [(one.source, one.reason) for one in found(*given).refused]


def test_files_are_named_by_their_path_below_the_directory(files: Any) -> None:
    files.raw("b.txt", "b")
    files.raw("sub/a.md", "a")
    files.raw(".hidden/x.txt", "x")
    files.raw("sub/.secret.txt", "x")
    assert names(files.root) == ["b.txt", "sub/a.md"]


def test_a_file_given_twice_is_one(files: Any) -> None:
    path = files.raw("b.txt", "b")
    assert found(path, files.root, path, path.as_uri()).files == (Found(str(path), "b.txt", 1),)


def test_files_of_the_same_name_are_told_apart(files: Any) -> None:
    files.raw("one/a.txt", "1")
    files.raw("two/a.txt", "2")
    assert names(files.root / "one", files.root / "two") == [f"{files.root}/one/a.txt", f"{files.root}/two/a.txt"]


def test_paths_of_shipped_recipes_start_at_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [Path(one.path) for one in found("pyproject.toml").files] == [ROOT / "pyproject.toml"]


def test_a_missing_path_and_an_empty_directory_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file or directory '/no/such/place'"):
        found("/no/such/place")
    with pytest.raises(InvalidInput, match="There are no files under"):
        found(tmp_path)


def test_nothing_is_written_for_paths_alone(files: Any, tmp_path: Path) -> None:
    gather([str(files.raw("a.txt", "a"))], tmp_path / "spool", SourcesSettings())
    assert not (tmp_path / "spool").exists()


def test_a_link_inside_is_the_same_file_and_one_that_leads_out_is_refused(files: Any, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("x")
    files.raw("sub/a.txt", "a")
    for link, leads_to in {
        "again.txt": "sub/a.txt",
        "loop": ".",
        "sub/up": "..",
        "self": "self",
        "nowhere.txt": "missing.txt",
        "out.txt": outside / "secret.txt",
        "out": outside,
        "sub/dots": "../../outside",
    }.items():
        (files.root / link).symlink_to(leads_to)
    assert names(files.root) == ["sub/a.txt"]
    assert refusals(files.root) == [(name, "link") for name in ("nowhere.txt", "out", "out.txt", "self", "sub/dots")]


def test_a_directory_beside_whose_name_begins_alike_is_outside(files: Any) -> None:
    files.raw("in/a.txt", "a")
    files.raw("in-and-out/b.txt", "b")
    (files.root / "in/link.txt").symlink_to("../in-and-out/b.txt")
    assert refusals(files.root / "in") == [("link.txt", "link")]


def test_a_link_to_what_is_hidden_inside_is_taken_under_its_own_name(files: Any) -> None:
    files.raw("..data_1/a.txt", "a")
    files.raw("..data_1/sub/b.txt", "b")
    (files.root / "..data").symlink_to("..data_1")
    (files.root / "a.txt").symlink_to("..data/a.txt")
    (files.root / "sub").symlink_to("..data/sub")
    assert names(files.root) == ["a.txt", "sub/b.txt"]


def test_a_link_that_is_given_is_followed(files: Any, tmp_path: Path) -> None:
    files.raw("a.txt", "a")
    (tmp_path / "link").symlink_to(files.root)
    assert names(tmp_path / "link") == ["a.txt"]


def test_what_is_no_file_is_refused(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    files.raw("a.txt", "a")
    os.mkfifo(files.root / "pipe.txt")
    monkeypatch.chdir(files.root)  # a socket's whole path has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.txt")
        gathered = found(files.root)
    assert [one.source for one in gathered.files] == ["a.txt"]
    assert [(one.source, one.reason, one.detail) for one in gathered.refused] == [
        ("pipe.txt", "not_a_file", "pipe.txt: this is a named pipe; only files are read."),
        ("socket.txt", "not_a_file", "socket.txt: this is a socket; only files are read."),
    ]
    with pytest.raises(InvalidInput, match="is a named pipe; give a file or a directory"):
        found(files.root / "pipe.txt")


def test_odd_names_are_printable(files: Any) -> None:
    files.raw("-rf.txt", "a")
    files.raw("two\nlines\u202e.txt", "b")
    (files.root / os.fsdecode(b"caf\xe9.txt")).write_text("c")
    assert names(files.root) == ["-rf.txt", r"two\nlines\u202e.txt"]
    assert refusals(files.root) == [(r"caf\xe9.txt", "bad_name")]


def test_when_all_are_refused_the_first_reason_is_said(files: Any) -> None:
    os.mkfifo(files.root / "pipe.txt")
    with pytest.raises(
        InvalidInput, match=r"There are no files under .* that can be used; 1 were refused: pipe.txt: this is a named"
    ):
        found(files.root)


@contextmanager
def a_user_without_rights() -> Iterator[None]:
    """Root may read everything, so that where the tests are root's somebody else must look."""
    root = not os.geteuid()
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_what_may_not_be_read_is_refused() -> None:
    # pytest's own directory is closed to others.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        root = Path(name)
        for folder in (root, root / "locked", root / "open"):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
        for file in ("locked/a.txt", "open/b.txt", "open/c.txt"):
            (root / file).write_text("x")
        (root / "open/c.txt").chmod(0)
        (root / "locked").chmod(0)
        with a_user_without_rights():
            gathered = gather([str(root)], root / "none", SourcesSettings())
        (root / "locked").chmod(0o755)
    assert [one.source for one in gathered.files] == ["open/b.txt"]
    assert [(one.source, one.reason) for one in gathered.refused] == [("locked/", "unreadable"), ("open/c.txt", "unreadable")]


def test_a_dataset_on_disk_gives_its_arrow_files(tmp_path: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["one", "two"]})
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(str(tmp_path / "kb"))
    rows.save_to_disk(str(tmp_path / "plain"))
    (tmp_path / "kb/train/cache-1f.arrow").write_bytes(b"x")
    arrow = "data-00000-of-00001.arrow"
    assert names(tmp_path / "kb") == [f"kb/test/{arrow}", f"kb/train/{arrow}"]
    assert names(tmp_path / "plain") == [f"plain/{arrow}"]
    assert names(tmp_path) == [f"kb/test/{arrow}", f"kb/train/{arrow}", f"plain/{arrow}"]


def test_a_page_about_dots_is_no_hidden_file(files: Any) -> None:
    files.raw("..md", "What a dot is.")
    files.raw(".hidden.md", "x")
    assert [one.source for one in gather([str(files.root)], files.root.parent / "spool", SourcesSettings()).files] == ["..md"]
