"""Finding files."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cluster.errors import InvalidInput, NotFound
from cluster.settings import ROOT
from data_jobs.extract import FORMATS


class Found(NamedTuple):
    """A file to ingest. ``source`` is how reports and citations name it: its path below the directory that was given."""

    path: str
    source: str
    bytes: int


def find_files(paths: Sequence[str]) -> list[Found]:
    """Every file under the paths, each once, in order of source. Hidden files and directories are left out."""
    found: dict[Path, tuple[str, str]] = {}
    for given in paths:
        root = _located(given)
        if root.is_file():
            found.setdefault(root.resolve(), (root.name, str(root)))
        elif root.is_dir():
            for file in root.rglob("*"):
                inside = file.relative_to(root)
                if file.is_file() and not any(part.startswith(".") for part in inside.parts):
                    found.setdefault(file.resolve(), (inside.as_posix(), file.as_posix()))
        else:
            raise NotFound(f"There is no file or directory '{given}'; give paths that this machine can read.")
    if not found:
        raise InvalidInput(f"There are no files under {', '.join(paths)}; give at least one of {', '.join(sorted(FORMATS))}.")
    times = Counter(short for short, _ in found.values())
    files = [Found(str(path), short if times[short] == 1 else long, path.stat().st_size) for path, (short, long) in found.items()]
    return sorted(files, key=lambda one: one.source)


def _located(given: str) -> Path:
    """A path of a recipe: as given, else (for recipes that ship with the project) below the project's root."""
    path = Path(given).expanduser()
    return path if path.exists() or not (ROOT / given).exists() else ROOT / given
