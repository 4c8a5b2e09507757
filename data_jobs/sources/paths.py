"""Local files and directories. Hidden names are left out. A symbolic link to something inside the given directory is that thing, once;
one that leads out of it is refused, so that a directory from elsewhere cannot name files of this machine. A link that is itself given
is followed: the person named it. What changes while the directory is walked may be missed."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cluster.errors import InvalidInput, NotFound
from cluster.settings import ROOT
from data_jobs.sources.found import Candidate, Haul, hidden, printable

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def gather(given: Sequence[str]) -> Haul:
    """Every file under the paths, each once. Raises NotFound and InvalidInput for a path that is neither file nor directory."""
    haul = Haul()
    taken: dict[str, Candidate] = {}
    for one in given:
        path = located(one)
        if path.is_dir():
            _Walk(path, taken, haul).run()
        elif path.is_file():
            real = os.path.realpath(path)
            taken.setdefault(real, Candidate(real, printable(path.name), printable(str(path)), path.stat().st_size))
        elif path.exists():
            raise InvalidInput(f"{printable(one)} is {_kind_of(os.stat(path).st_mode)}; give a file or a directory.")
        else:
            raise NotFound(f"There is no file or directory '{printable(one)}'; give paths that this machine can read.")
    haul.files += taken.values()
    return haul


def located(given: str) -> Path:
    """A path of a recipe: as given, else (for recipes that ship with the project) below the project's root."""
    if given.startswith("file://"):
        given = unquote(urlsplit(given).path)
    path = Path(given).expanduser()
    return path if os.path.lexists(path) or not (ROOT / given).exists() else ROOT / given


@dataclass
class _Walk:
    """One directory. ``taken`` is shared by all given ones: real path → candidate."""

    root: Path
    taken: dict[str, Candidate]
    haul: Haul
    seen: set[tuple[int, int]] = field(default_factory=set)
    links: list[tuple[str, str]] = field(default_factory=list)

    def run(self) -> None:
        self.real = os.path.realpath(self.root)
        self.below = f"{self.real.rstrip('/')}/"
        self.directory(self.real, f"{self.root.resolve().name}/" if _holds_dataset(self.real) else "")
        # Files go first and links after them, so that a file found both ways has its own name.
        for path, source in self.links:
            self.link(path, source)

    def directory(self, folder: str, prefix: str) -> None:
        """Everything below ``folder``, named from ``prefix`` on. A stack and no recursion: directories may lie deep."""
        stack = [(folder, prefix)]
        while stack:
            folder, prefix = stack.pop()
            try:
                there = os.stat(folder)
                if (there.st_dev, there.st_ino) in self.seen:
                    continue
                self.seen.add((there.st_dev, there.st_ino))
                with os.scandir(folder) as entries:
                    inside = list(entries)
            except OSError as error:
                self.haul.refuse(printable(prefix or str(self.root)), "unreadable", _cannot("directory", error))
                continue
            for entry in _arrow_only(inside):
                if hidden(entry.name):
                    continue
                source = prefix + entry.name
                try:
                    if not _is_text(entry.name):
                        self.haul.refuse(printable(source), "bad_name", "the name is not valid UTF-8; rename it")
                    elif entry.is_symlink():
                        self.links.append((entry.path, source))
                    elif entry.is_dir(follow_symlinks=False):
                        stack.append((entry.path, f"{source}/"))
                    else:
                        self.file(entry.path, source, entry.stat(follow_symlinks=False))
                except OSError as error:
                    self.haul.refuse(printable(source), "unreadable", _cannot("file", error))

    def file(self, path: str, source: str, info: os.stat_result) -> None:
        if not stat.S_ISREG(info.st_mode):
            self.haul.refuse(printable(source), "not_a_file", f"this is {_kind_of(info.st_mode)}; only files are read")
        elif not os.access(path, os.R_OK, effective_ids=True):
            self.haul.refuse(
                printable(source), "unreadable", "the file cannot be opened: permission denied; let this user read it"
            )
        elif path not in self.taken:
            long = f"{self.root.as_posix()}/{path.removeprefix(self.below)}"
            self.taken[path] = Candidate(path, printable(source), printable(long), info.st_size)

    def link(self, path: str, source: str) -> None:
        target = os.path.realpath(path)
        if not f"{target}/".startswith(self.below):
            self.haul.refuse(printable(source), "link", "the link leads out of the directory; give what it leads to instead")
        elif not os.path.exists(target):
            self.haul.refuse(printable(source), "link", "the link leads nowhere; mend or remove it")
        elif os.path.isdir(target):
            self.directory(target, f"{source}/")
        else:
            self.file(target, source, os.stat(target))


def _arrow_only(entries: list[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    """The entries; of a Hugging Face dataset's directory its arrow files alone, without those that a ``map`` left as its cache."""
    names = {entry.name for entry in entries}
    arrow = any(name.endswith(".arrow") for name in names)
    if "dataset_dict.json" not in names and not (arrow and "dataset_info.json" in names):
        return entries
    return [one for one in entries if one.is_dir() or (one.name.endswith(".arrow") and not one.name.startswith("cache-"))]


def _holds_dataset(folder: str) -> bool:
    there = Path(folder)
    whole = (there / "dataset_dict.json").is_file()
    return whole or ((there / "dataset_info.json").is_file() and next(there.glob("*.arrow"), None) is not None)


def _is_text(name: str) -> bool:
    try:
        return name.isascii() or bool(name.encode())
    except UnicodeEncodeError:
        return False


def _kind_of(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "no file")


def _cannot(what: str, error: OSError) -> str:
    return f"the {what} cannot be read: {(error.strerror or str(error)).lower()}; let this user read it"
