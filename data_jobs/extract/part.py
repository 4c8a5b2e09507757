"""What an extractor gives, and how it says that a file cannot be read."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from cluster.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Part:
    """One document found in a file. ``name`` tells the records of one file apart ("row 3"); ``problem`` says why a record
    cannot be read while the rest of its file can, and ``reason`` is the word that reports count it by. Headings in ``text`` are
    Markdown's. ``media_type`` is set where it is not the file's own (a member of an archive, a message of a mailbox)."""

    text: str
    title: str = ""
    name: str = ""
    problem: str = ""
    reason: str = "corrupt"
    media_type: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Options:
    """What an extractor may be told. ``first``: the number of the first line, for a slice of JSON lines. ``text_field`` and
    ``title_field``: which fields of a record hold its text and title, where they are not named as usual."""

    first: int = 1
    text_field: str | None = None
    title_field: str | None = None


class Unreadable(InvalidInput):
    """The file is set aside. ``reason`` is the word that reports count by; the message is the sentence."""

    reason: ClassVar[str] = "corrupt"


class Encrypted(Unreadable):
    reason = "encrypted"


class NotText(Unreadable):
    reason = "not_text"


class UnknownFormat(Unreadable):
    reason = "unknown_format"


class Unopened(Unreadable):
    reason = "unreadable"


class TimedOut(Unreadable):
    reason = "timeout"


class OutOfMemory(Unreadable):
    reason = "memory"


class Crashed(Unreadable):
    reason = "crashed"


class NotAFile(Unreadable):
    """A link or a device."""

    reason = "not_a_file"


class UnsafeName(Unreadable):
    """A name that leads out of the archive."""

    reason = "unsafe_name"


class Nested(Unreadable):
    """An archive in an archive in an archive."""

    reason = "nested_archive"


BY_REASON: dict[str, type[Unreadable]] = {
    kind.reason: kind
    for kind in (
        Unreadable,
        Encrypted,
        NotText,
        UnknownFormat,
        Unopened,
        TimedOut,
        OutOfMemory,
        Crashed,
        NotAFile,
        UnsafeName,
        Nested,
    )
}
"""For answers that crossed a process border as words."""
