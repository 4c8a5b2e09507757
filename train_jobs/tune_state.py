"""A search's state on disk, with a copy of the newest that was whole.

Ray Tune overwrites its state in place. A driver killed in the middle of that leaves files cut short, from which nothing is restored; the
search then goes on from the copy. Only of local storage: elsewhere a file is there whole or not at all.
"""

import json
import pickle
import shutil
from pathlib import Path

from cluster.domain.base import new_id

_COPY = "whole"


def damaged(place: Path) -> bool:
    """Whether a state file in ``place`` cannot be read."""
    try:
        for file in place.glob("experiment_state-*.json"):
            json.loads(file.read_text(encoding="utf-8"))
        for file in (*place.glob("search*state*.pkl"), *place.glob("search_gen_state-*.json")):  # Ray pickles both
            pickle.loads(file.read_bytes())
    except (ValueError, EOFError, OSError, pickle.UnpicklingError):
        return True
    return not any(place.glob("experiment_state-*.json"))


def keep(place: Path) -> None:
    """Copies the state aside, if it is whole."""
    if not place.is_dir():
        return
    beside = place / new_id(f".{_COPY}")
    beside.mkdir()
    try:
        for file in (one for one in place.iterdir() if one.is_file()):
            shutil.copyfile(file, beside / file.name)
        if not damaged(beside):
            shutil.rmtree(place / _COPY, ignore_errors=True)
            beside.rename(place / _COPY)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def mend(place: Path) -> bool:
    """Puts the copy back where the state is damaged; without one the search begins anew. Returns whether there is a state."""
    if not place.is_dir():
        return False
    if not damaged(place):
        return True
    for file in (one for one in place.iterdir() if one.is_file()):
        file.unlink()
    copy = place / _COPY
    if damaged(copy):
        shutil.rmtree(place)
        return False
    for file in copy.iterdir():
        shutil.copyfile(file, place / file.name)
    return True
