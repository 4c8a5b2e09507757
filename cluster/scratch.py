"""Directories for what a process works on, gone when it is done, and gone too when it was killed: the next one sweeps."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_PREFIX = "treadle-of-"


def make_folder(kind: str) -> Path:
    """An empty directory of this process's, whose owner removes it; what processes that are dead left behind is removed first."""
    sweep()
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-{kind}-"))


@contextmanager
def working_folder(kind: str) -> Iterator[Path]:
    """``make_folder``'s directory, while ``with`` lasts."""
    place = make_folder(kind)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def sweep() -> None:
    """Remove the directories whose process is gone; its pid stands in their names."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)  # somebody else's stays, because it cannot be removed
