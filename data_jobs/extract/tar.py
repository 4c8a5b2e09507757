"""Tar archives, plain or gzipped, and single gzipped files: their members. Read as a stream, so that nothing is unpacked twice."""

import io
import tarfile
import zlib
from collections.abc import Iterator
from functools import partial

from data_jobs.extract.members import Member, broken, check_size
from data_jobs.extract.part import NotAFile, Unreadable

_GZIP = b"\x1f\x8b"
_BLOCK = 512
_DAMAGE = (tarfile.TarError, zlib.error, EOFError, OSError, ValueError)


def members(data: bytes) -> Iterator[Member]:
    """Every member but directories, as they come; each must be loaded before the next is asked for. Raises Unreadable at the place
    where the archive breaks off."""
    gzipped = data.startswith(_GZIP)
    if gzipped and not _is_tar(data):
        yield _single(data)
        return
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r|gz" if gzipped else "r|") as archive:
            for info in archive:
                if not info.isdir():
                    yield Member(info.name, info.size, partial(_unpacked, archive, info))
    except _DAMAGE as error:
        raise Unreadable(f"the archive breaks off or is damaged ({error or type(error).__name__}); pack it anew") from None


def _unpacked(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    if not info.isfile() or info.issparse():
        raise NotAFile(f"'{info.name}' in it is a link, a device or a sparse file; pack the file itself")
    check_size(info.name, info.size)
    try:
        file = archive.extractfile(info)
        found = file.read() if file else b""
    except _DAMAGE as error:
        raise broken(info.name, error) from None
    if len(found) < info.size:
        raise broken(info.name, EOFError("it is cut short"))
    return found


def _is_tar(data: bytes) -> bool:
    try:
        head = zlib.decompressobj(wbits=31).decompress(data, _BLOCK)
    except zlib.error:
        return False
    return head[257:262] == b"ustar"


def _single(data: bytes) -> Member:
    """The file in a gzip file, under the name that gzip kept of it, if it kept one."""
    name = ""
    if len(data) > 10 and data[3] & 8 and not data[3] & 4:
        name = data[10 : data.find(b"\0", 10, 1024)].decode("latin-1")
    return Member(name.rsplit("/", 1)[-1] or "content", 0, partial(_gunzipped, data))


def _gunzipped(data: bytes) -> bytes:
    found = bytearray()
    rest = data
    try:
        while rest.startswith(_GZIP):
            one = zlib.decompressobj(wbits=31)
            while not one.eof:
                piece = one.decompress(one.unconsumed_tail or rest, 1 << 20)
                found += piece
                check_size("content", len(found), len(data))
                if not piece and not one.unconsumed_tail:
                    raise EOFError("it is cut short")
                rest = b""
            rest = one.unused_data
    except (zlib.error, EOFError) as error:
        raise broken("content", error) from None
    return bytes(found)
