"""Object stores and file servers, by fsspec's URLs. Objects are listed below the address and those that changed are copied.

Buckets (s3, gs, az …) are reached with the credentials that their own libraries find. A server that an address names by its host must
be allowed by the settings. How long a library waits for a server that hangs is its own affair; a copy that comes too slowly is ended.
"""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from cluster.domain.base import digest_of
from cluster.errors import InvalidInput, NotFound, TreadleError
from cluster.settings import SourcesSettings
from data_jobs.sources.found import Candidate, Failed, Haul, Say, TooLarge, hidden, printable, shown, why
from data_jobs.sources.pinned import check_host
from data_jobs.sources.spool import ending_of, keep_only, read_json, sizes, slot_of, write_json, written

# Protocol → the package that brings it. Chained and other ones would reach past the list of allowed hosts.
_BUCKETS = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs", "oci": "ocifs",
    "oss": "ossfs", "hf": "huggingface_hub", "memory": "fsspec",
}  # fmt: skip
_SERVERS = {
    "ftp": "fsspec",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "smb": "smbprotocol",
    "hdfs": "pyarrow",
    "webhdfs": "requests",
}
_VERSION = ("etag", "md5hash", "content_md5", "crc32c", "mtime", "lastmodified", "last_modified", "updated", "created", "modify")
_LISTING = "listing.json"
_PIECE = 1 << 20
_AT_ONCE = 8


class _Object(NamedTuple):
    """``file`` is its name in the slot: what it is called, and which version it is."""

    path: str
    source: str
    file: str
    size: int | None


@dataclass(frozen=True)
class Store:
    """The objects below ``url``."""

    url: str
    name: str
    settings: SourcesSettings

    @classmethod
    def parse(cls, given: str, settings: SourcesSettings) -> "Store":
        """Raises InvalidInput for a protocol that is not taken, and NotAllowed for a server that the settings do not allow."""
        protocol = given.partition("://")[0].lower()
        if "::" in given or (protocol not in _BUCKETS and protocol not in _SERVERS):
            raise InvalidInput(
                f"'{shown(given)}' cannot be read: use one of {', '.join(f'{one}://' for one in (*_BUCKETS, *_SERVERS))}, "
                "http(s)://, git+URL, jira+URL or a local path."
            )
        if protocol in _SERVERS:
            check_host(urlsplit(given).hostname or "", settings)
        return cls(given, shown(given), settings)

    def slot(self, spool: Path) -> Path:
        return slot_of(spool, "remote", self.url)

    def gather(self, slot: Path, say: Say) -> Haul:
        """Every object in the slot, copied if it changed. One that cannot be had is refused, and its copy from earlier is used.
        Raises NotFound where there is nothing, InvalidInput where a package is missing, Failed where the store does not answer."""
        say(f"listing {self.name}")
        had: dict[str, tuple[str, str]] = read_json(slot / _LISTING) or {}
        haul = Haul()
        try:
            system, root, listing = self._listed()
        except Failed as error:
            if not had:
                raise
            haul.refuse(self.name, error.reason, f"{why(error)}; the copies from earlier are used")
            self._take(had, slot, haul)
            return haul
        wanted = _wanted(system, root, listing)
        there = sizes(slot)
        new = [one for one in wanted if one.file not in there]
        say(f"{self.name}: {len(wanted)} files, {len(new)} to copy")
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            problems = dict(zip(new, pool.map(lambda one: self._copied(system, one, slot), new), strict=True))
        has = {one.path: (one.source, one.file) for one in wanted if not problems.get(one)}
        for one, problem in problems.items():
            if problem:
                earlier = had.get(one.path) if isinstance(problem, Failed) else None
                has |= {one.path: earlier} if earlier else {}
                haul.refuse(one.source, problem.reason, f"{why(problem)}{'; the copy from earlier is used' if earlier else ''}")
        write_json(slot / _LISTING, has)
        keep_only(slot, {_LISTING, *(file for _, file in has.values())})
        self._take(has, slot, haul)
        return haul

    def _take(self, has: Mapping[str, tuple[str, str]], slot: Path, haul: Haul) -> None:
        there = sizes(slot)
        for source, file in has.values():
            if file in there:
                haul.files.append(Candidate(str(slot / file), source, f"{self.name.rstrip('/')}/{source}", there[file]))

    def _listed(self) -> tuple[Any, str, Mapping[str, Any]]:
        import fsspec

        protocol = self.url.partition("://")[0].lower()
        try:
            system, root = fsspec.core.url_to_fs(self.url)
            listing = system.find(root, detail=True)
            if not listing:
                raise NotFound(f"There is nothing at {self.name}; give the address of a file or of a folder with files.")
        except TreadleError:
            raise
        except ImportError:
            package = _BUCKETS.get(protocol) or _SERVERS[protocol]
            raise InvalidInput(f"{protocol}:// needs a package that is not installed; run: pip install {package}") from None
        except FileNotFoundError:
            raise NotFound(f"There is nothing at {self.name}; give the address of a file or of a folder with files.") from None
        except Exception as error:  # every library behind fsspec has its own errors
            raise Failed(f"{self.name} cannot be listed: {_said(error)}.") from None
        return system, root.rstrip("/"), listing

    def _copied(self, system: Any, one: _Object, slot: Path) -> Failed | TooLarge | None:
        """One object to its place; what went wrong, if anything."""
        limit, until, got = self.settings.megabytes * 1_000_000, time.monotonic() + self.settings.seconds, 0
        too_large = TooLarge(f"the object has more than the {limit:,} bytes that one file may have")
        if (one.size or 0) > limit:
            return too_large
        try:
            with written(slot / one.file) as stream, system.open(one.path, "rb") as source:
                while piece := source.read(_PIECE):
                    got += len(piece)
                    if got > limit:
                        raise too_large
                    if time.monotonic() > until:
                        raise Failed(f"copying took longer than {self.settings.seconds:g} s")
                    stream.write(piece)
                if one.size is not None and got < one.size:
                    raise Failed(f"the object ended after {got:,} of {one.size:,} bytes")
        except (Failed, TooLarge) as error:
            return error
        except Exception as error:  # every library behind fsspec has its own errors
            return Failed(f"the object cannot be copied: {_said(error)}")
        return None


def _wanted(system: Any, root: str, listing: Mapping[str, Any]) -> list[_Object]:
    """The files of a listing without the hidden ones, in order."""
    wanted = []
    for path, info in sorted(listing.items()):
        inside = path.removeprefix(root).strip("/") or path.rpartition("/")[2]
        if info.get("type") == "file" and not any(map(hidden, inside.split("/"))):
            file = f"{digest_of(path)[:24]}-{_version(system, path, info)}{ending_of(path)}"
            wanted.append(_Object(path, printable(inside), file, info.get("size")))
    return wanted


def _version(system: Any, path: str, info: Mapping[str, Any]) -> str:
    """A word that changes when the object does."""
    marks = {key.lower(): str(value) for key, value in info.items() if key.lower() in _VERSION and value is not None}
    return digest_of([info.get("size"), marks or system.ukey(path)])[:16]


def _said(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
