"""What sources give: files with the names that reports and citations use, and refusals. Knows no kind of source."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from cluster.domain.documents import Quarantined
from cluster.errors import InvalidInput, TreadleError, Unavailable
from data_jobs.extract import FORMATS

Say = Callable[[str], None]
"""Told now and then, in a sentence, how far a source has come."""

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SECRET = re.compile(r"token|secret|passw|signature|credential|api.?key|access.?key|^sig$|^key$|^auth", re.IGNORECASE)


class Found(NamedTuple):
    """A file to ingest. ``source`` is how reports and citations name it: its path below the directory that was given."""

    path: str
    source: str
    bytes: int


@dataclass(frozen=True)
class Gathered:
    """Every file once, in order of source; and what cannot be one, each with a reason."""

    files: tuple[Found, ...]
    refused: tuple[Quarantined, ...]


class Candidate(NamedTuple):
    """A file before names are told apart: ``long`` is its source where another file has the same ``short`` one."""

    path: str
    short: str
    long: str
    bytes: int


@dataclass
class Haul:
    """What one source gives."""

    files: list[Candidate] = field(default_factory=list)
    refused: list[Quarantined] = field(default_factory=list)

    def refuse(self, source: str, reason: str, why: str) -> None:
        """Set one thing aside; ``why`` says what it is and the way out, without a full stop."""
        detail = why if why.startswith(source) else f"{source}: {why}"
        self.refused.append(Quarantined(source=source, reason=reason, detail=f"{detail}."))


class Failed(Unavailable):
    """A source did not answer, or not with what was asked for."""

    reason: ClassVar[str] = "source_failed"


class NotAllowed(InvalidInput):
    """A host or an address that the settings do not allow."""

    reason: ClassVar[str] = "not_allowed"


class TooLarge(InvalidInput):
    """More bytes than the settings allow for one file."""

    reason: ClassVar[str] = "too_large"


def why(error: TreadleError) -> str:
    """An error's sentence as the end of another: without its full stop."""
    return error.message.rstrip(".")


def printable(name: str) -> str:
    """A name as it may stand in a report: bytes that are no UTF-8, control characters and changes of direction become escapes."""

    def escaped(found: re.Match[str]) -> str:
        code = ord(found.group())
        if 0xDC80 <= code <= 0xDCFF:
            return f"\\x{code - 0xDC00:02x}"
        return found.group().encode("unicode_escape", "surrogatepass").decode()

    return _UNPRINTABLE.sub(escaped, name)


def shown(url: str) -> str:
    """A URL as it may stand in a report: without user and password, and without the values of parameters that look like secrets."""
    try:
        parts = urlsplit(url)
        query = "&".join(f"{quote(key)}={'…' if _SECRET.search(key) else quote(value)}" for key, value in _pairs(parts.query))
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query, fragment="")
        return printable(urlunsplit(bare))
    except ValueError:
        return printable(re.sub(r"//[^/@]*@", "//", url.partition("?")[0]))


def _pairs(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)


def hidden(name: str) -> bool:
    """Whether a file or directory is left out by its name: a leading dot hides, as everywhere, but "..md" is a page about "."."""
    return name.startswith(".") and name[1:].lower() not in FORMATS
