"""The members of an archive as documents, each through the extractor of its own kind. Knows no archive format.

A member that cannot be used costs itself alone, unless it crashes its parser or takes too long: time and memory are the archive's as
a whole. Nothing is written anywhere.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath

from cluster.errors import one_sentence
from data_jobs.extract import sniff, tar, zip
from data_jobs.extract.members import Member
from data_jobs.extract.part import Nested, Options, OutOfMemory, Part, Unreadable, UnsafeName

Read = Callable[[str, bytes, Options], list[Part]]

_MEMBERS: dict[str, Callable[[bytes], Iterator[Member]]] = {
    ".zip": zip.members,
    ".tar": tar.members,
    ".tgz": tar.members,
    ".gz": tar.members,
}
_MOST_MEMBERS = 100_000
_MOST_BYTES = 1 << 30
"""Of all members together."""
_JUNK = {"__MACOSX", "Thumbs.db", "desktop.ini"}
_UNSAFE = re.compile(r"^/|^[A-Za-z]:/|(?:^|/)\.\.(?:/|$)|[\x00-\x1f\x7f]")


def extractor(ending: str, read: Read) -> Callable[[bytes, Options], list[Part]]:
    """The extractor of archives with that ending, which has its members read by ``read``. An archive in the archive is opened too;
    one in that is not."""
    return partial(_extract, ending=ending, read=read)


def _extract(data: bytes, options: Options = Options(), *, ending: str, read: Read) -> list[Part]:
    return list(_Opened(read, replace(options, first=1)).parts(ending, data, "", 0))


class _Opened:
    """One archive being read, with what has been counted over all its members."""

    def __init__(self, read: Read, options: Options) -> None:
        self._read, self._options = read, options
        self._members = self._bytes = 0
        self._names: Counter[str] = Counter()

    def parts(self, ending: str, data: bytes, inside: str, depth: int) -> Iterator[Part]:
        members = _MEMBERS[ending](data)
        while True:
            try:
                member = next(members, None)
            except Unreadable as error:
                if not depth and not self._members:
                    raise
                yield _refused(inside or "the rest", error)
                return
            if member is None:
                return
            self._members += 1
            if self._members > _MOST_MEMBERS:
                yield _refused(
                    inside or "the rest", OutOfMemory(f"the archive has more than {_MOST_MEMBERS:,} members; give it unpacked")
                )
                return
            if not _is_junk(member.name):
                yield from self._member(member, inside, depth)

    def _member(self, member: Member, inside: str, depth: int) -> Iterator[Part]:
        name = inside + _printable(member.name)
        self._names[name] += 1
        if self._names[name] > 1:
            name += f" ({self._names[name]})"
        try:
            data = self._loaded(member)
            nested = sniff.proven_ending(data)
            if nested in _MEMBERS:
                if depth:
                    raise Nested("it is an archive inside an archive inside an archive; unpack it")
                yield from self.parts(nested, data, name + "/", depth + 1)
                return
            found = self._read(member.name, data, self._options)
        except Unreadable as error:
            yield _refused(name, error)
        except MemoryError:
            yield _refused(name, OutOfMemory("it needs more memory than megabytes_per_file allows; give it unpacked"))
        except Exception as error:  # an untrusted member may make its parser raise anything, and must cost itself alone
            yield _refused(name, Unreadable(f"its parser gave up ({one_sentence(error)}); export it again"))
        else:
            yield from (_named(part, name) for part in found)

    def _loaded(self, member: Member) -> bytes:
        if _UNSAFE.search(member.name):
            raise UnsafeName("its name leads out of the archive or has control characters; pack it under a plain name")
        if self._bytes + member.size > _MOST_BYTES:
            raise OutOfMemory(f"the archive unpacks to more than {_MOST_BYTES >> 20} MB; give it unpacked")
        data = member.load()
        self._bytes += len(data)
        return data


def _refused(name: str, error: Unreadable) -> Part:
    return Part(text="", name=name, problem=error.message, reason=error.reason)


def _named(part: Part, member: str) -> Part:
    title = part.title or ("" if part.name else PurePosixPath(member).stem.replace("_", " ").replace("-", " "))
    return replace(part, name=f"{member} {part.name}".rstrip(), title=title)


def _is_junk(name: str) -> bool:
    """What operating systems leave behind, and what is hidden; a directory of files is read the same way."""
    steps = name.split("/")
    return any(step in _JUNK or (step.startswith(".") and step not in (".", "..")) for step in steps)


def _printable(name: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", "?", name.removeprefix("./"))
