"""Bytes at URIs: bundles of files with a manifest that is written last, and datasets as JSON lines.

A bundle without ``manifest.json`` does not exist: a process killed half-way leaves nothing that anyone would read. Bundles are content
addressed (``<root>/<kind>/<digest>``), so publishing the same files twice makes one bundle. Any fsspec URL serves as root; on a local
root a bundle is written beside its place and renamed into it.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Iterable

from pydantic import TypeAdapter, ValidationError

from cluster.domain.base import Frozen, new_id
from cluster.domain.datasets import Row
from cluster.errors import IntegrityError, NotFound, Unavailable

MANIFEST = "manifest.json"
_ROW: TypeAdapter[Row] = TypeAdapter(Row)


class Bundle(Frozen):
    """A directory of files that was published as one: ``digest`` is over names and contents."""

    uri: str
    digest: str
    meta: dict[str, Any] = {}


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _listing(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(directory).as_posix(): file_digest(path) for path in files}


def _digest(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


class Artifacts:
    """The artifact store at a root: a directory or any fsspec URL."""

    def __init__(self, root: str, cache: Path | None = None) -> None:
        self.root = root.removeprefix("file://").rstrip("/")
        self._local = "://" not in self.root
        self._cache = cache or Path(tempfile.gettempdir()) / "treadle-artifacts"

    def publish(self, kind: str, directory: Path, meta: dict[str, Any] | None = None) -> Bundle:
        """Copy the files of ``directory`` into a new bundle. Raises Unavailable when the disk is full or the store unreachable."""
        files = _listing(directory)
        if not files:
            raise NotFound(f"There is nothing to publish in {directory}.")
        digest = _digest(files)
        uri = f"{self.root}/{kind}/{digest}"
        manifest = {"kind": kind, "digest": digest, "files": files, "meta": meta or {}}
        try:
            if self._local:
                self._publish_local(directory, Path(uri), manifest)
            else:
                self._publish_remote(directory, uri, manifest)
        except OSError as error:
            what = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
            raise Unavailable(f"The artifact store {self.root} cannot be written: {what}; nothing was kept.") from None
        return Bundle(uri=uri, digest=digest, meta=meta or {})

    def _publish_local(self, directory: Path, place: Path, manifest: dict[str, Any]) -> None:
        if (place / MANIFEST).is_file():
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        beside = place.parent / new_id(".writing")
        try:
            for name in manifest["files"]:
                target = beside / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(directory / name, target)
            write_whole(beside / MANIFEST, json.dumps(manifest, indent=1).encode())
            if place.exists() and not (place / MANIFEST).is_file():
                shutil.rmtree(place)
            try:
                beside.rename(place)
            except OSError:
                if not (place / MANIFEST).is_file():  # another process published the same bundle meanwhile
                    raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _publish_remote(self, directory: Path, uri: str, manifest: dict[str, Any]) -> None:
        import fsspec

        filesystem, place = fsspec.core.url_to_fs(uri)
        if filesystem.exists(f"{place}/{MANIFEST}"):
            return
        for name in manifest["files"]:
            filesystem.makedirs(f"{place}/{name}".rsplit("/", 1)[0], exist_ok=True)
            filesystem.put_file(str(directory / name), f"{place}/{name}")
        with filesystem.open(f"{place}/{MANIFEST}", "wb") as stream:
            stream.write(json.dumps(manifest, indent=1).encode())

    def fetch(self, uri: str, digest: str | None = None, verify: bool = True) -> Path:
        """A local directory with the bundle's files, their digests checked.

        Raises NotFound when there is no whole bundle, IntegrityError when bytes are not those that were published; a copy of a remote
        bundle is then let go, so that the next call reads the store again.
        """
        local = "://" not in uri.removeprefix("file://")
        directory = Path(uri.removeprefix("file://")) if local else self._download(uri)
        try:
            return self._checked(directory, uri, digest, verify)
        except IntegrityError:
            if not local:
                shutil.rmtree(directory, ignore_errors=True)
            raise

    def _checked(self, directory: Path, uri: str, digest: str | None, verify: bool) -> Path:
        if not (directory / MANIFEST).is_file():
            raise NotFound(f"There is no whole bundle at {uri} (no {MANIFEST}); it was removed or never finished.")
        try:
            manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
            files, recorded = dict(manifest["files"]), str(manifest["digest"])
        except (ValueError, KeyError, TypeError):
            raise IntegrityError(f"{MANIFEST} of the bundle at {uri} cannot be read; restore it from a backup.") from None
        if digest is not None and recorded != digest:
            raise IntegrityError(f"The bundle at {uri} has digest {recorded[:12]}, not {digest[:12]} as recorded.")
        if verify:
            if _digest(files) != recorded:
                raise IntegrityError(
                    f"{MANIFEST} of the bundle at {uri} has changed since it was published; restore it from a backup."
                )
            found = _listing(directory)
            for name, expected in files.items():
                if found.get(name) != expected:
                    state = "is missing" if name not in found else "has changed"
                    raise IntegrityError(
                        f"{name} of the bundle at {uri} {state} since it was published; restore it from a backup."
                    )
        return directory

    def _download(self, uri: str) -> Path:
        import fsspec

        place = self._cache / hashlib.sha256(uri.encode()).hexdigest()
        if (place / MANIFEST).is_file():
            return place
        filesystem, path = fsspec.core.url_to_fs(uri)
        if not filesystem.exists(f"{path}/{MANIFEST}"):
            return place
        self._cache.mkdir(parents=True, exist_ok=True)
        beside = self._cache / new_id(".reading")
        manifest = json.loads(filesystem.cat_file(f"{path}/{MANIFEST}"))
        for name in [*manifest["files"], MANIFEST]:
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            filesystem.get_file(f"{path}/{name}", str(beside / name))
        try:
            beside.rename(place)
        except OSError:
            shutil.rmtree(beside, ignore_errors=True)  # another process was faster
        return place

    def remember(self, name: str, data: bytes) -> None:
        """Keep what can be made again under a name that says what it is made of (``reference/<digest>.npy``). Whole or not at all."""
        if self._local:
            write_whole(Path(self.root) / "derived" / name, data)
            return
        import fsspec

        filesystem, place = fsspec.core.url_to_fs(f"{self.root}/derived/{name}")
        filesystem.makedirs(place.rsplit("/", 1)[0], exist_ok=True)
        filesystem.pipe_file(place, data)

    def recall(self, name: str) -> bytes | None:
        """What was kept under a name; None when nothing was."""
        try:
            if self._local:
                return (Path(self.root) / "derived" / name).read_bytes()
            import fsspec

            filesystem, place = fsspec.core.url_to_fs(f"{self.root}/derived/{name}")
            return bytes(filesystem.cat_file(place))
        except FileNotFoundError:
            return None

    def write_rows(self, rows: Iterable[Row]) -> Bundle:
        """Publish dataset rows as ``rows.jsonl``."""
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "rows.jsonl"
            with file.open("w", encoding="utf-8") as stream:
                for row in rows:
                    stream.write(row.model_dump_json() + "\n")
            return self.publish("dataset", Path(scratch))

    def read_rows(self, uri: str) -> list[Row]:
        """The rows of a published dataset, digests checked."""
        return read_rows_file(self.fetch(uri) / "rows.jsonl")


def read_rows_file(path: Path) -> list[Row]:
    """Dataset rows from a JSONL file. Raises IntegrityError naming the line that is none."""
    rows: list[Row] = []
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                rows.append(_ROW.validate_json(line))
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                place = ".".join(str(part) for part in first["loc"])
                raise IntegrityError(f"{path}, line {number} is not a dataset row: {place}: {first['msg']}.") from None
    return rows


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, and survives a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(new_id(f".{path.name}"))
    try:
        with beside.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
