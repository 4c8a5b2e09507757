"""Checkpoints that say whether they are whole.

A rank seals the files it has written by listing them with their sizes and digests in ``sealed-RANK.json``, written last. What has no
seal of every rank, or does not match it, is not used: training then goes on from the checkpoint before.
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import fsspec

from cluster.artifacts import file_digest, write_whole

_SEAL = "sealed-{rank}.json"
_STATE = "trainer_state.json"  # what the trainer goes on from; an adapter that is handed over at the end has none
_LIST = "checkpoint_manager_snapshot.json"  # Ray Train's, written in place


def seal(folder: Path, rank: int, world: int, step: int, points: Sequence[dict[str, Any]] = ()) -> None:
    """Seals the files in ``folder`` as this rank's part of the checkpoint of ``step``. ``points`` are the curve's that are told of with it:
    they stand in the seal too, because whoever is killed now has not told of them."""
    files = {path.relative_to(folder).as_posix(): file_digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    said = {"step": step, "world": world, "files": files, "points": list(points)}
    write_whole(folder / _SEAL.format(rank=rank), json.dumps(said).encode())


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint in one phrase; None when it is whole."""
    world = 1
    rank = 0
    while rank < world:
        place = folder / _SEAL.format(rank=rank)
        try:
            said: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return f"{place.name} is missing or cut short"
        world = int(said["world"])
        for name, digest in said["files"].items():
            file = folder / name
            if not file.is_file():
                return f"{name} is missing"
            if file_digest(file) != digest:
                return f"{name} has changed since it was written"
        rank += 1
    return None


def step_of(folder: Path) -> int:
    """The step a sealed checkpoint was written at."""
    return int(json.loads((folder / _SEAL.format(rank=0)).read_text(encoding="utf-8"))["step"])


def points_of(folder: Path) -> list[dict[str, Any]]:
    """The points of the curve that were to be told of with a sealed checkpoint."""
    return list(json.loads((folder / _SEAL.format(rank=0)).read_text(encoding="utf-8")).get("points", ()))


def newest_whole(folders: Iterable[Path]) -> tuple[Path | None, list[str]]:
    """The first of ``folders`` that is whole and that training can go on from, and a sentence on each broken one that was passed over."""
    passed: list[str] = []
    for folder in folders:
        wrong = damage(folder)
        if wrong is None:
            if not (folder / _STATE).is_file():
                continue
            return folder, passed
        passed.append(f"Checkpoint {folder.name} is broken ({wrong}); training goes on from the one before.")
    return None, passed


def forget_broken_list(place: str) -> str | None:
    """Removes Ray Train's list of a run's checkpoints (``place``: the run's folder or address) when it is cut short or names what is
    gone: Ray would refuse the run for good, and workers find checkpoints by their seals. Returns what was wrong with it."""
    filesystem, root = fsspec.core.url_to_fs(place)
    file = f"{root}/{_LIST}"
    if not filesystem.exists(file):
        return None
    try:
        listed = [one["checkpoint_dir_name"] for one in json.loads(filesystem.cat_file(file))["checkpoint_results"]]
    except (ValueError, KeyError, TypeError):
        wrong = "is cut short"
    else:
        missing = [name for name in listed if not filesystem.exists(f"{root}/{name}")]
        if not missing:
            return None
        wrong = f"names {missing[0]}, which is gone"
    filesystem.rm_file(file)
    return f"The list of checkpoints {_LIST} {wrong}; the newest whole one is looked for instead."


def take_adapter(folder: Path, target: Path) -> None:
    """Copies the adapter's two files out of a checkpoint."""
    target.mkdir(parents=True)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copyfile(folder / name, target / name)
