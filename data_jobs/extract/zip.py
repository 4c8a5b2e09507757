"""ZIP archives: their members, and a member's bytes within bounds."""

import io
import stat
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial

from data_jobs.extract.members import Member, broken, check_size, encrypted
from data_jobs.extract.part import NotAFile, Unreadable

_HEADER = 30
"""Bytes of a member's header without its name."""


def members(data: bytes) -> Iterator[Member]:
    """Every member but directories, in the order of the archive's list. Raises Unreadable when there is no list to be read, or when
    members share their bytes, which only an archive made as a bomb does."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise Unreadable(f"the archive cannot be opened ({error}); pack it anew") from None
    infos = archive.infolist()
    end = 0
    for info in sorted(infos, key=lambda one: one.header_offset):
        if info.header_offset < end:
            raise Unreadable(f"the archive's members overlap at '{info.filename}', as in a bomb; pack it anew")
        end = info.header_offset + _HEADER + info.compress_size
    for info in infos:
        if not info.is_dir():
            yield Member(info.filename.replace("\\", "/"), info.file_size, partial(unpacked, archive, info))


def unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A member's bytes, never more than its declared size (zipfile reads no further). Raises Unreadable."""
    name = member.filename
    if member.flag_bits & 1:
        raise encrypted(name)
    mode = member.external_attr >> 16
    if mode and stat.S_IFMT(mode) and not stat.S_ISREG(mode):
        raise NotAFile(f"'{name}' in it is a link or a device; pack the file itself")
    check_size(name, member.file_size, member.compress_size)
    try:
        return archive.read(member)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, EOFError, ValueError, RuntimeError) as error:
        raise broken(name, error) from None
