"""Object stores by fsspec's URLs, with its store in memory."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from cluster.errors import InvalidInput, NotFound, Unavailable
from cluster.settings import SourcesSettings
from data_jobs.sources import Gathered, gather, remote


class Bucket:
    """A folder of the store in memory, which all of a process shares."""

    def __init__(self) -> None:
        self.system = fsspec.filesystem("memory")
        self.root = f"/{uuid.uuid4().hex}"
        self.url = f"memory:/{self.root}"

    def put(self, name: str, data: bytes = b"text") -> None:
        self.system.pipe_file(f"{self.root}/{name}", data)


class Failing(MemoryFileSystem):
    """The same store on a bad day."""

    cachable = False
    protocol = "memory"
    listing: type[Exception] | None = None
    opening: type[Exception] | None = None

    def find(self, *rest: Any, **named: Any) -> Any:
        if self.listing:
            raise self.listing("no route\nto the store")
        return super().find(*rest, **named)

    def _open(self, path: str, *rest: Any, **named: Any) -> Any:
        if self.opening and path.endswith("a.txt"):
            raise self.opening("slow down")
        return super()._open(path, *rest, **named)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    made = Bucket()
    yield made
    if made.system.exists(made.root):
        made.system.rm(made.root, recursive=True)


@pytest.fixture
def failing() -> Iterator[type[Failing]]:
    fsspec.register_implementation("memory", Failing, clobber=True)
    yield Failing
    Failing.listing = Failing.opening = None
    fsspec.register_implementation("memory", MemoryFileSystem, clobber=True)


def got(spool: Path, *given: str, **changes: Any) -> Gathered:
    return gather(given, spool, SourcesSettings(**changes))


def texts(gathered: Gathered) -> dict[str, bytes]:
    return {one.source: Path(one.path).read_bytes() for one in gathered.files}


def test_objects_are_files_named_by_their_path_below_the_address(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("a.txt", b"a")
    bucket.put("sub/deep/B.PDF", b"b")
    bucket.put(".hidden/c.txt")
    bucket.put("sub/.d.txt")
    bucket.put("odd\nname.md", b"e")
    bucket.put(r"odd\nname.md", b"f")
    gathered = got(tmp_path, f"{bucket.url}/")
    odd = rf"{bucket.url}/odd\nname.md"
    assert set(texts(gathered)) == {"a.txt", odd, f"{odd} (2)", "sub/deep/B.PDF"}
    assert sorted(texts(gathered).values()) == [b"a", b"b", b"e", b"f"]
    assert [Path(one.path).suffix for one in gathered.files] == [".txt", ".md", ".md", ".pdf"]
    assert texts(got(tmp_path, f"{bucket.url}/sub/deep/B.PDF")) == {"B.PDF": b"b"}


def test_again_only_what_changed_is_copied(bucket: Bucket, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        bucket.put(name)
    before = got(tmp_path, bucket.url)
    times = {one.source: Path(one.path).stat().st_mtime_ns for one in before.files}
    bucket.put("b.txt", b"TEXT")
    bucket.system.rm(f"{bucket.root}/c.txt")
    heard: list[str] = []
    after = gather([bucket.url], tmp_path, SourcesSettings(), heard.append)
    assert heard[-1] == f"{bucket.url}: 2 files, 1 to copy"
    assert texts(after) == {"a.txt": b"text", "b.txt": b"TEXT"}
    assert Path(after.files[0].path).stat().st_mtime_ns == times["a.txt"]
    assert len(list((tmp_path / "remote").glob("*/*.txt"))) == 2


def test_names_that_lead_elsewhere_stay_in_the_spool(tmp_path: Path) -> None:
    listing = {name: {"name": name, "size": 1, "type": "file"} for name in ("/b/../../x.txt", "/b//etc/passwd", "/other/y.txt")}
    wanted = remote._wanted(fsspec.filesystem("memory"), "/b", {key: {**value, "etag": "1"} for key, value in listing.items()})
    assert [one.source for one in wanted] == ["etc/passwd", "other/y.txt"]
    assert all("/" not in one.file for one in wanted)


def test_one_object_that_fails_leaves_its_earlier_copy(bucket: Bucket, tmp_path: Path, failing: type[Failing]) -> None:
    bucket.put("a.txt", b"old")
    bucket.put("b.txt")
    got(tmp_path, bucket.url)
    bucket.put("a.txt", b"new")
    failing.opening = OSError
    gathered = got(tmp_path, bucket.url)
    assert texts(gathered) == {"a.txt": b"old", "b.txt": b"text"}
    (refused,) = gathered.refused
    assert (refused.source, refused.reason) == ("a.txt", "source_failed")
    assert refused.detail == "a.txt: the object cannot be copied: OSError: slow down; the copy from earlier is used."
    first = got(tmp_path / "fresh", bucket.url)
    assert texts(first) == {"b.txt": b"text"}
    assert first.refused[0].detail == "a.txt: the object cannot be copied: OSError: slow down."
    failing.opening = None
    assert texts(got(tmp_path, bucket.url))["a.txt"] == b"new"


def test_an_object_that_is_too_large_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("a.txt", b"x" * 1_000_001)
    bucket.put("b.txt")
    gathered = got(tmp_path, bucket.url, megabytes=1)
    assert list(texts(gathered)) == ["b.txt"]
    assert [(one.source, one.reason) for one in gathered.refused] == [("a.txt", "too_large")]


def test_a_copy_that_is_too_slow_is_ended(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("a.txt")
    with pytest.raises(Unavailable, match=r"a\.txt: copying took longer than 1e-09 s"):
        got(tmp_path, bucket.url, seconds=1e-9)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {".lock", "listing.json"}


def test_a_store_that_does_not_answer_is_one_sentence(bucket: Bucket, tmp_path: Path, failing: type[Failing]) -> None:
    bucket.put("a.txt", b"a")
    got(tmp_path, bucket.url)
    failing.listing = ConnectionError
    gathered = got(tmp_path, bucket.url)
    assert texts(gathered) == {"a.txt": b"a"}
    assert [(one.source, one.reason) for one in gathered.refused] == [(bucket.url, "source_failed")]
    assert gathered.refused[0].detail.endswith("ConnectionError: no route; the copies from earlier are used.")
    with pytest.raises(Unavailable, match="cannot be listed: ConnectionError: no route") as caught:
        got(tmp_path / "fresh", bucket.url)
    assert "\n" not in caught.value.message


def test_nothing_there_is_one_sentence(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"There is nothing at {bucket.url}"):
        got(tmp_path, bucket.url)


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    missing = {"gs": "gcsfs", "oci": "ocifs"}
    for protocol, package in missing.items():
        with pytest.raises(
            InvalidInput, match=f"{protocol}:// needs a package that is not installed; run: pip install {package}"
        ):
            got(tmp_path, f"{protocol}://bucket/x")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("zip://a.txt::http://169.254.169.254/x.zip", "cannot be read: use one of s3://"),
        ("simplecache::s3://bucket/x", "cannot be read"),
        ("s3://bucket/x::memory://", "cannot be read"),
        ("github://a:b@/x", "cannot be read"),
        ("nothing://x", "cannot be read"),
        ("ftp://files.example.org/x", "The host 'files.example.org' is not allowed"),
        ("sftp://me:se" + "cret@files.example.org/x", "The host 'files.example.org' is not allowed"),
    ],
)
def test_what_is_not_taken_is_one_sentence(tmp_path: Path, given: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        got(tmp_path / "spool", given)
    assert "se" + "cret" not in caught.value.message
    assert not (tmp_path / "spool").exists()


def test_sources_of_all_kinds_make_one_list(bucket: Bucket, files: Any, tmp_path: Path) -> None:
    bucket.put("a.txt")
    bucket.put("b.txt")
    files.raw("a.txt", "a")
    given = [bucket.url, str(files.root), (files.root / "a.txt").as_uri()]
    assert [one.source for one in got(tmp_path / "spool", *given).files] == [
        f"{files.root}/a.txt",
        "b.txt",
        f"{bucket.url}/a.txt",
    ]
