"""One file at an http(s) address. An unchanged one is not sent again: the server is told what is there (RFC 9110, conditional requests)."""

from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from cluster.domain.base import digest_of
from cluster.settings import SourcesSettings
from data_jobs.extract import FORMATS
from data_jobs.sources.found import Candidate, Failed, Haul, NotAllowed, Say, shown, why
from data_jobs.sources.pinned import Reply, asked, check_host, target
from data_jobs.sources.spool import ending_of, keep_only, read_json, slot_of, write_json, written

_REDIRECTS = 5
_STATE = "state.json"
_MOVED = (301, 302, 303, 307, 308)
_GONE = (404, 410)
_TYPES = {media_type: ending for ending, (media_type, _) in reversed(FORMATS.items())} | {
    "application/json": ".json",
    "application/xhtml+xml": ".html",
    "application/x-ndjson": ".jsonl",
    "text/x-markdown": ".md",
    "application/zip": ".zip",
    "message/rfc822": ".eml",
    "application/mbox": ".mbox",
}


@dataclass(frozen=True)
class Page:
    """The file at ``url``."""

    url: str
    name: str
    settings: SourcesSettings

    @classmethod
    def parse(cls, given: str, settings: SourcesSettings) -> "Page":
        """Raises InvalidInput for what is no address, and NotAllowed for a host that the settings do not allow."""
        check_host(str(target(given).hostname), settings)
        return cls(given.partition("#")[0], shown(given), settings)

    def slot(self, spool: Path) -> Path:
        return slot_of(spool, "urls", self.url)

    def gather(self, slot: Path, say: Say) -> Haul:
        """The file, fetched if it changed. One that cannot be had now is refused, and what is there from earlier is used; one that
        is gone is gone. Raises Failed, NotAllowed and TooLarge where there is nothing from earlier."""
        say(f"fetching {self.name}")
        state = read_json(slot / _STATE) or {}
        haul = Haul()
        try:
            state = self._fetched(slot, state)
        except Failed as error:
            if not state or not (slot / state["file"]).is_file():
                raise
            haul.refuse(self.name, error.reason, f"{why(error)}; the copy from earlier is used")
        file = slot / state["file"]
        haul.files.append(Candidate(str(file), self.name, self.name, file.stat().st_size))
        return haul

    def _fetched(self, slot: Path, state: dict[str, Any]) -> dict[str, Any]:
        url = self.url
        for _ in range(_REDIRECTS + 1):
            known = state if state.get("url") == url and (slot / str(state.get("file", ""))).is_file() else {}
            headers = {"If-None-Match": known.get("etag"), "If-Modified-Since": known.get("modified")}
            with asked(url, self.settings, {key: value for key, value in headers.items() if value}) as reply:
                if reply.status == 200:
                    return self._kept(slot, url, reply)
                if reply.status == 304 and known:
                    return known
                if reply.status not in _MOVED or not reply.header("Location"):
                    if reply.status in _GONE:
                        keep_only(slot, ())
                    raise Failed(f"{shown(url)} answered {_said(reply.status)}; look at the address.")
                before, url = url, urljoin(url, reply.header("Location")).partition("#")[0]
            if before.startswith("https:") and not url.startswith("https:"):
                raise NotAllowed(f"{shown(before)} leads to {shown(url)}, which is not https; give an address that stays on it.")
        raise Failed(f"{self.name} leads on more than {_REDIRECTS} times; give the address where it ends.")

    def _kept(self, slot: Path, url: str, reply: Reply) -> dict[str, Any]:
        """The body in the slot. Its description is written last and what was there before is removed after it."""
        file = digest_of(self.url)[:24] + _ending((self.url, url), reply.header("Content-Type"))
        with written(slot / file) as stream:
            for piece in reply.pieces():
                stream.write(piece)
        state = {"url": url, "file": file, "etag": reply.header("ETag"), "modified": reply.header("Last-Modified")}
        write_json(slot / _STATE, state)
        keep_only(slot, (file, _STATE))
        return state


def _ending(urls: tuple[str, ...], content_type: str) -> str:
    """The ending of the path where it is a known one, else that of the media type, else whatever the path has."""
    endings = [ending_of(urlsplit(url).path) for url in urls]
    typed = _TYPES.get(content_type.partition(";")[0].strip().lower(), "")
    return next((one for one in endings if one in FORMATS or one == typed), "") or typed or next(filter(None, endings), "")


def _said(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
