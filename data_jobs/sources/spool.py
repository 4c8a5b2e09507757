"""The spool: where what is not a local file becomes one. Files are written beside their place and renamed into it, so that a process
killed half-way leaves none that is half there. Names are digests, whatever the thing was called."""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from cluster.domain.base import digest_of, new_id
from cluster.errors import Conflict

KINDS = ("git", "jira", "urls", "remote")
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,12}")
_SLOT = re.compile(r"[0-9a-f]{24}")
_WRITING = ".writing"


def slot_of(spool: Path, kind: str, *key: str) -> Path:
    """The directory of one source in the spool."""
    return spool / kind / digest_of(key)[:24]


def ending_of(name: str) -> str:
    """The ending of a name in lower case with its dot, or "" where it has none that is safe in a file name."""
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    return f".{ending.lower()}" if stem and _ENDING.fullmatch(dot + ending) else ""


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file when the block ends well, and nothing when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / new_id(_WRITING)
    try:
        with beside.open("wb") as stream:
            yield stream
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_once(path: Path, data: bytes) -> None:
    """The file with these bytes; one that has them already is not touched."""
    if not (path.is_file() and path.read_bytes() == data):
        with written(path) as stream:
            stream.write(data)


def write_json(path: Path, value: Any) -> None:
    """A JSON value as a file, its keys in order; untouched where it is there already."""
    write_once(
        path, json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    )


def read_json(path: Path) -> Any:
    """The value of a JSON file; None where it is missing or was cut."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def sizes(folder: Path) -> dict[str, int]:
    """The names of a folder's finished files with their sizes."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {one.name: one.stat().st_size for one in entries if one.is_file() and not one.name.startswith(_WRITING)}


def keep_only(folder: Path, names: Collection[str]) -> None:
    """Remove every file of the folder that is not named."""
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for one in entries:
                if one.name not in names and one.is_file(follow_symlinks=False):
                    os.unlink(one.path)


def clear_others(spool: Path, used: Collection[Path]) -> None:
    """Remove the slots of sources that are not given any more: what left a corpus is not kept in its spool."""
    for kind in KINDS:
        if (spool / kind).is_dir():
            for slot in (spool / kind).iterdir():
                if _SLOT.fullmatch(slot.name) and slot not in used:
                    shutil.rmtree(slot, ignore_errors=True)


@contextmanager
def alone(spool: Path) -> Iterator[None]:
    """One process at a time gathers into a spool. Raises Conflict at once where another one does."""
    spool.mkdir(parents=True, exist_ok=True)
    with (spool / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"Another run is gathering into {spool}; wait until it has ended, or cancel it.") from None
        yield
