"""An export's directory: written beside its place, described by a manifest that is written last, and moved whole."""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.artifacts import write_whole
from cluster.errors import Conflict, InvalidInput, Unavailable

MANIFEST = "export.json"


def check_place(target: Path, ref: str) -> None:
    """Raises InvalidInput when ``target`` holds something that is no earlier export of the same release."""
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise InvalidInput(f"'{target}' is a file or a link, and an export is a directory; give another --output.")
    if not any(target.iterdir()):
        return
    try:
        before = json.loads((target / MANIFEST).read_text(encoding="utf-8"))["release"]
    except (OSError, ValueError, KeyError, TypeError):
        before = None
    if before is None:
        raise InvalidInput(f"'{target}' is not empty and holds no export of {ref}; give another --output or empty it.")
    if before != ref:
        raise InvalidInput(f"'{target}' holds an export of {before}, not of {ref}; give another --output or remove it.")


@contextmanager
def writing(target: Path, ref: str) -> Iterator[Path]:
    """A scratch directory beside ``target`` that becomes ``target`` when the block ends well, and is removed when it does not.

    What a killed process left there is cleared by the next export to the same place; two at once are a Conflict. The lock is one of the
    operating system and dies with its process. Between the departure of an earlier export and the arrival of the new one lie two renames; a
    process killed right there leaves the earlier one aside, and the next export puts it back first.
    """
    aside = _aside(target)
    if aside.is_dir() and not target.exists():
        aside.rename(target)
    check_place(target, ref)
    beside = target.with_name(f".{target.name}.exporting")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.mkdir(exist_ok=True)
        handle = os.open(beside, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise Unavailable(f"'{target}' cannot be written ({error.strerror or error}); give another --output.") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"Another export is writing to '{target}'; wait for it or give another --output.") from None
        try:
            _clear(beside)
            yield beside
            _move(beside, target)
        except OSError as error:
            what = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
            raise Unavailable(f"'{target}' cannot be written: {what}; nothing was kept.") from None
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    finally:
        os.close(handle)


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.before")


def _move(beside: Path, target: Path) -> None:
    before = _aside(target)
    if target.exists():
        shutil.rmtree(before, ignore_errors=True)
        target.rename(before)
    try:
        beside.rename(target)
    except OSError:
        if before.exists():
            before.rename(target)
        raise
    shutil.rmtree(before, ignore_errors=True)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """The last file of an export."""
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=1, default=str).encode())
