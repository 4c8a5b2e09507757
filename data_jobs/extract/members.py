"""What an archive format gives of each member, and the bounds within which a member is unpacked."""

from collections.abc import Callable
from typing import NamedTuple

from data_jobs.extract.part import Encrypted, OutOfMemory, Unreadable

_MOST_BYTES = 512 << 20
_SUSPICIOUS_BYTES, _SUSPICIOUS_RATIO = 16 << 20, 200


class Member(NamedTuple):
    """``load`` gives the bytes or raises Unreadable; ``size`` is how many there will be."""

    name: str
    size: int
    load: Callable[[], bytes]


def check_size(name: str, size: int, packed: int = 0) -> None:
    """Raises OutOfMemory for what would unpack to too much, or so much more than its packed size (where that is known) that it was
    made to."""
    bomb = packed and size > _SUSPICIOUS_BYTES and size > _SUSPICIOUS_RATIO * packed
    if size > _MOST_BYTES or bomb:
        raise OutOfMemory(f"'{name}' in it unpacks to {size >> 20} MB{', as a bomb does' if bomb else ''}; give it unpacked")


def encrypted(name: str) -> Encrypted:
    return Encrypted(f"'{name}' in it is encrypted; pack it without a password")


def broken(name: str, error: BaseException) -> Unreadable:
    return Unreadable(f"'{name}' in it cannot be unpacked ({error or type(error).__name__}); pack it anew")
