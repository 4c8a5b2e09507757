"""Checkpoints that say whether they are whole.

A rank seals the files it has written by listing them with their sizes and digests in ``sealed-RANK.json``, written last. What has no
seal of every rank, or does not match it, is not used: training then goes on from the checkpoint before.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cluster.artifacts import file_digest, write_whole

_SEAL = "sealed-{rank}.json"


def seal(folder: Path, rank: int, world: int, step: int) -> None:
    """Seals the files in ``folder`` as this rank's part of the checkpoint of ``step``."""
    files = {path.relative_to(folder).as_posix(): file_digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    said = {"step": step, "world": world, "files": files}
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


def newest_whole(folders: Iterable[Path]) -> tuple[Path | None, list[str]]:
    """The first of ``folders`` that is whole, and a sentence on each that was passed over."""
    passed: list[str] = []
    for folder in folders:
        wrong = damage(folder)
        if wrong is None:
            return folder, passed
        passed.append(f"Checkpoint {folder.name} is broken ({wrong}); training goes on from the one before.")
    return None, passed


def take_adapter(folder: Path, target: Path) -> None:
    """Copies the adapter's two files out of a checkpoint."""
    target.mkdir(parents=True)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copyfile(folder / name, target / name)
