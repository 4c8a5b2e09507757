"""Jira's REST interface, as far as gathering needs it: searching page by page, one issue, its comments. Server and Data Center have
``/rest/api/2/search`` with ``startAt``; Cloud has ``/rest/api/3/search/jql`` with ``nextPageToken`` and answers 410 to the other."""

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from cluster.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
from cluster.settings import SourcesSettings
from data_jobs.sources.found import Failed, printable, shown
from data_jobs.sources.pinned import Reply, asked

FIRST_WAIT = 0.5
_ATTEMPTS = 4
_MOST_PAGES = 100_000


class SearchPage(NamedTuple):
    """``place`` says where in the search it lies; ``total`` is None where Jira does not say."""

    issues: list[dict[str, Any]]
    total: int | None
    place: str


@dataclass
class Jira:
    """One Jira at ``base``, asked with the token of the settings."""

    base: str
    settings: SourcesSettings
    cloud: bool = field(default=False, init=False)

    def search(self, jql: str, fields: str, size: int) -> Iterator[SearchPage]:
        """The pages of a search. A page that cannot be had ends it with Failed, which names the page."""
        query = {"jql": jql, "fields": fields, "maxResults": str(size)}
        try:
            if not self.cloud:
                yield from self._by_number(query)
                return
        except _Absent:
            self.cloud = True
        try:
            yield from self._by_token(query)
        except _Absent:
            raise NotFound(
                f"There is no Jira at {shown(self.base)}; give the address that its pages have before /browse."
            ) from None

    def issue(self, key: str) -> dict[str, Any] | None:
        """One issue with everything; None where it is gone, or has another key now."""
        try:
            found = self._get(f"issue/{quote(key, safe='')}", {"fields": "*all"})
        except _Absent:
            return None
        return found if isinstance(found, dict) and found.get("key") == key else None

    def comments(self, key: str) -> list[Any]:
        """All comments of an issue, where the search gave only some."""
        found: list[Any] = []
        while True:
            page = self._get(f"issue/{quote(key, safe='')}/comment", {"startAt": str(len(found)), "maxResults": "100"})
            some = page.get("comments") if isinstance(page, dict) else None
            if not isinstance(some, list):
                raise Failed(f"{shown(self.base)} gave no list of comments for {printable(key)}.")
            found += some
            if not some or len(found) >= int(page.get("total") or 0):
                return found

    def _by_number(self, query: dict[str, str]) -> Iterator[SearchPage]:
        start = 0
        for _ in range(_MOST_PAGES):
            place = f"startAt {start}"
            page = self._get("search", {**query, "startAt": str(start)}, place)
            issues, total = _issues(page, place), page.get("total")
            if not isinstance(total, int):
                raise Failed(f"{shown(self.base)}, {place}: the page has no total.")
            if start < total and not issues:
                raise Failed(f"{shown(self.base)}, {place}: the page is empty, though there are {total} issues.")
            yield SearchPage(issues, total, place)
            start += len(issues)
            if start >= total:
                return

    def _by_token(self, query: dict[str, str]) -> Iterator[SearchPage]:
        token, seen = "", {""}
        for number in range(1, _MOST_PAGES):
            place = f"page {number}"
            page = self._get("search/jql", {**query, **({"nextPageToken": token} if token else {})}, place)
            yield SearchPage(_issues(page, place), None, place)
            token = str(page.get("nextPageToken") or "")
            if page.get("isLast") is True or token in seen:
                return
            seen.add(token)

    def _get(self, path: str, query: dict[str, str], place: str = "") -> Any:
        url = f"{self.base}/rest/api/{3 if self.cloud else 2}/{path}?{urlencode(query)}"
        wait, where = FIRST_WAIT, f"{shown(self.base)}, {place or path}"
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with asked(url, self.settings, self._headers()) as reply:
                    if reply.status == 200 and "AUTHENTICATED_FAILED" not in reply.header("X-Seraph-LoginReason"):
                        return json.loads(b"".join(reply.pieces()))
                    self._check(reply, where)
                    problem = f"answered {reply.status}"
                    pause = _asked_for(reply.header("Retry-After"), wait)
            except Failed as error:
                problem, pause = error.message.rstrip("."), wait
            except (ValueError, RecursionError):
                problem, pause = "answered something that is not JSON", wait
            if attempt < _ATTEMPTS:
                time.sleep(min(pause, self.settings.seconds))
                wait *= 2
        raise Failed(f"{where}: {problem}, {_ATTEMPTS} times.")

    def _check(self, reply: Reply, where: str) -> None:
        """Raises for an answer that would be the same if asked again."""
        if reply.status in (200, 401):
            raise Unauthenticated(
                f"{where}: the user or the token was refused; set jira_user and jira_token of sources in the settings."
            )
        if reply.status in (404, 410):
            raise _Absent(f"{where}: answered {reply.status}.")
        if reply.status == 403:
            raise Forbidden(f"{where}: the token does not allow this; let its user browse the project.")
        if 300 <= reply.status < 400:
            raise InvalidInput(f"{where}: leads to {shown(reply.header('Location'))}; give that address if it is the same Jira.")
        if 400 <= reply.status < 500 and reply.status not in (408, 425, 429):
            raise InvalidInput(f"{where}: the search was refused: {_told(reply)}.")

    def _headers(self) -> dict[str, str]:
        token = self.settings.jira_token.get_secret_value()
        if not token:
            return {"Accept": "application/json"}
        basic = base64.b64encode(f"{self.settings.jira_user}:{token}".encode()).decode()
        return {"Accept": "application/json", "Authorization": f"Basic {basic}" if self.settings.jira_user else f"Bearer {token}"}


class _Absent(NotFound):
    """404 or 410: this Jira has no such thing, or no such interface."""


def _issues(page: Any, place: str) -> list[dict[str, Any]]:
    issues = page.get("issues") if isinstance(page, dict) else None
    if not isinstance(issues, list) or not all(isinstance(one, dict) and isinstance(one.get("key"), str) for one in issues):
        raise Failed(f"{place}: the answer is not a page of issues.")
    return issues


def _told(reply: Reply) -> str:
    try:
        said = json.loads(b"".join(reply.pieces()))
        words = [*said.get("errorMessages", ()), *said.get("errors", {}).values()]
    except (Failed, ValueError, AttributeError):
        words = []
    return printable("; ".join(map(str, words)))[:300].rstrip(".") or f"status {reply.status}"


def _asked_for(header: str, otherwise: float) -> float:
    """Seconds that a Retry-After asks for, as a number or a date."""
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return otherwise
