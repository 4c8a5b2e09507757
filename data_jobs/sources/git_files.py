"""The files of a git tree, copied out by their ids: two files with the same content are one in the spool, and one that is there is not
copied again. What is no plain file (a submodule, a link, a pointer to LFS) is refused."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from cluster.errors import InvalidInput
from data_jobs.sources.found import Candidate, Failed, Haul, Say, hidden, printable
from data_jobs.sources.git_process import Git
from data_jobs.sources.spool import ending_of, keep_only, sizes, written

_POINTER = b"version https://git-lfs.github.com/spec/"
# A pointer is shorter than this by LFS's specification; its spool file has an ending that no other can have.
_POINTER_BYTES = 1024
_POINTER_ENDING = ".lfs-pointer"
_LONGEST_PATH = 1 << 16
_MOST = 2_000_000
_PIECE = 1 << 20


class _Entry(NamedTuple):
    id: str
    path: str
    bytes: int

    @property
    def file(self) -> str:
        """Its name in the spool."""
        return self.id + ending_of(self.path)


def bring(git: Git, commit: str, folder: Path, name: str, limit: int, haul: Haul, say: Say) -> None:
    """The tree's files to ``folder`` and into the haul. Raises InvalidInput for a tree of more files than any person wrote."""
    entries = list(_entries(git, commit, name, limit, haul))
    there = sizes(folder)
    new = {one.file: one for one in entries if there.get(one.file) != one.bytes and f"{one.id}{_POINTER_ENDING}" not in there}
    say(f"{name}: {len(entries)} files, {len(new)} to copy")
    _copy(git, list(new.values()), folder)
    there = sizes(folder)
    kept = set()
    for one in entries:
        pointer = f"{one.id}{_POINTER_ENDING}"
        if pointer in there:
            kept.add(pointer)
            haul.refuse(
                one.path, "lfs_pointer", "only a pointer is in the repository, the content is in LFS; give that file itself"
            )
        else:
            kept.add(one.file)
            haul.files.append(Candidate(str(folder / one.file), one.path, f"{name}:{one.path}", one.bytes))
    keep_only(folder, kept)


def _entries(git: Git, commit: str, name: str, limit: int, haul: Haul) -> Iterator[_Entry]:
    listed = git.records("ls-tree", "-r", "-z", "--long", "--full-tree", commit, longest=_LONGEST_PATH)
    for number, (record, cut) in enumerate(listed):
        if number >= _MOST:
            raise InvalidInput(f"{name} has more than {_MOST:,} files; give a smaller repository.")
        head, _, raw = record.partition(b"\t")
        mode, _, id, size = head.decode().split()
        path = printable(raw.decode("utf-8", "surrogateescape"))
        parts = path.split("/")
        if cut or "." in parts or ".." in parts:
            haul.refuse(path[:200], "bad_name", "a name like this can not be a file's; rename it in the repository")
        elif any(map(hidden, parts)):
            continue
        elif mode == "160000":
            haul.refuse(path, "submodule", "a submodule is a repository of its own; give its address to read it")
        elif mode == "120000":
            haul.refuse(
                path, "link", "a symbolic link has no text of its own; what it leads to is read where it lies in the repository"
            )
        elif int(size) > limit:
            haul.refuse(path, "too_large", f"the file has {int(size):,} bytes, more than the {limit:,} that one file may have")
        else:
            yield _Entry(id, path, int(size))


def _copy(git: Git, entries: list[_Entry], folder: Path) -> None:
    if not entries:
        return
    with git.started("cat-file", "--batch", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for one in entries:
            process.stdin.write(f"{one.id}\n".encode())
            process.stdin.flush()
            head = process.stdout.readline().split()
            if len(head) != 3 or head[1] != b"blob" or int(head[2]) != one.bytes:
                raise Failed(f"git has no content for {one.path}; the repository is damaged.")
            _copy_one(process.stdout, one, folder)
            process.stdout.read(1)


def _copy_one(stream: IO[bytes], one: _Entry, folder: Path) -> None:
    piece = stream.read(min(_PIECE, one.bytes))
    pointer = one.bytes < _POINTER_BYTES and piece.startswith(_POINTER)
    with written(folder / (f"{one.id}{_POINTER_ENDING}" if pointer else one.file)) as file:
        left = one.bytes
        while True:
            file.write(piece)
            left -= len(piece)
            if not left:
                return
            piece = stream.read(min(_PIECE, left))
            if not piece:
                raise Failed(f"git gave {one.bytes - left:,} of the {one.bytes:,} bytes of {one.path}.")
