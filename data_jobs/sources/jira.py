"""The issues of a Jira: a file for each, of the shape of an export page with one issue.

    jira+https://HOST[/context]?project=KEY        jira+https://HOST[/context]?jql=…

What is new is asked for by ``updated``; then all keys are listed, and what the listing has that the spool has not, or has older, is asked
for by its key, so that neither an edit while pages are read nor a server in another time zone loses an issue. What the listing has not is
removed. A page that fails ends the gathering where it is; the next run goes on from there.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cluster.errors import InvalidInput
from cluster.settings import SourcesSettings
from data_jobs.sources.found import Candidate, Failed, Haul, Say, printable, shown, why
from data_jobs.sources.jira_rest import Jira
from data_jobs.sources.pinned import check_host, target
from data_jobs.sources.spool import keep_only, read_json, sizes, slot_of, write_json

_STATE = "state.json"
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}-[0-9]{1,18}")
_PROJECT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_ORDER = re.compile(r"\s*\border\s+by\b[^\"']*$", re.IGNORECASE)
# They change when somebody looks, not when somebody writes.
_VOLATILE = ("lastViewed",)
_PAGE = 100
_LISTING_PAGE = 1000
_LISTINGS = 3


@dataclass(frozen=True)
class Issues:
    """The issues that ``jql`` finds at ``base``."""

    base: str
    jql: str
    name: str
    settings: SourcesSettings

    @classmethod
    def parse(cls, given: str, settings: SourcesSettings) -> "Issues":
        """Raises InvalidInput for what is no such address, and NotAllowed for a host that the settings do not allow."""
        url = given[len("jira+") :]
        parts = target(url)
        name = f"jira+{shown(url)}"
        check_host(str(parts.hostname), settings)
        query = parse_qs(parts.query)
        if len(query) != 1 or len(values := next(iter(query.values()))) != 1 or not {"project", "jql"} & set(query):
            raise InvalidInput(f"'{name}' does not say which issues; end it with ?project=KEY or ?jql=….")
        jql = _ORDER.sub("", values[0]).strip()
        if "project" in query:
            if not _PROJECT.fullmatch(jql):
                raise InvalidInput(f"'{printable(jql)}' is not the key of a project; give one like KB.")
            jql = f'project = "{jql}"'
        base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        return cls(base, jql, name, settings)

    def slot(self, spool: Path) -> Path:
        return slot_of(spool, "jira", self.base, self.jql)

    def gather(self, slot: Path, say: Say) -> Haul:
        """Raises Failed where nothing could be had, and at once what no retry would mend: a refused token, a JQL with a mistake."""
        return _Gathering(self, slot, say).run()


@dataclass
class _Gathering:
    source: Issues
    slot: Path
    say: Say
    haul: Haul = field(default_factory=Haul)

    def run(self) -> Haul:
        self.jira = Jira(self.source.base, self.source.settings)
        self.folder = self.slot / "issues"
        try:
            self.changed()
            self.listed()
        except Failed as error:
            if not sizes(self.folder):
                raise
            self.haul.refuse(
                self.source.name, error.reason, f"{why(error)}; what was fetched before is used, run it again to go on"
            )
        for file, size in sorted(sizes(self.folder).items()):
            self.haul.files.append(Candidate(str(self.folder / file), file, f"{self.source.base}/browse/{file}", size))
        return self.haul

    def changed(self) -> None:
        """Everything that changed since the newest issue that was seen, page by page; the state follows the files."""
        newest = str((read_json(self.slot / _STATE) or {}).get("newest") or "")
        jql = self.source.jql
        if since := _window(newest):
            jql = f'({jql}) AND updated >= "{since}"'
        done = 0
        for page in self.jira.search(f"{jql} ORDER BY updated ASC, key ASC", "*all", _PAGE):
            for issue in page.issues:
                self.save(issue)
            newest = max([newest, *(str(_updated(issue)) for issue in page.issues)], key=_moment)
            write_json(self.slot / _STATE, {"newest": newest})
            done += len(page.issues)
            self.say(f"{self.source.name}: {done} issues" + (f" of {page.total}" if page.total is not None else ""))

    def listed(self) -> None:
        """What the pages missed is fetched and what is gone is removed, by a listing that held still while it was read."""
        for _ in range(_LISTINGS):
            keys: dict[str, str] = {}
            totals, count = set(), 0
            for page in self.jira.search(f"{self.source.jql} ORDER BY key ASC", "updated", _LISTING_PAGE):
                keys |= {issue["key"]: _updated(issue) for issue in page.issues}
                totals.add(page.total)
                count += len(page.issues)
            if len(keys) == count and totals <= {None, count}:
                break
        else:
            raise Failed("the list of keys changed each time it was read, so nothing was removed.")
        here = {file.removesuffix(".json") for file in sizes(self.folder)}
        if here and not keys:
            raise Failed(f"Jira lists no issue where {len(here)} were known, so none was removed; look at the token's rights.")
        for key in self.outdated(keys):
            if issue := self.jira.issue(key):
                self.save(issue)
            else:
                del keys[key]
        keep_only(self.folder, {f"{key}.json" for key in keys})

    def outdated(self, keys: dict[str, str]) -> list[str]:
        """Keys of the listing whose file is missing or older."""
        return [key for key, updated in keys.items() if _KEY.fullmatch(key) and self.stale(key, updated)]

    def stale(self, key: str, updated: str) -> bool:
        page = read_json(self.folder / f"{key}.json")
        return not page or (bool(updated) and _updated(page["issues"][0]) != updated)

    def save(self, issue: dict[str, Any]) -> None:
        """The issue's file, the same bytes for the same issue."""
        key = issue["key"]
        if not _KEY.fullmatch(key):
            self.haul.refuse(printable(key)[:200], "bad_name", "this is not the key of an issue")
            return
        fields = {name: value for name, value in (issue.get("fields") or {}).items() if name not in _VOLATILE}
        comment = fields.get("comment")
        if isinstance(comment, dict) and len(comment.get("comments") or ()) < int(comment.get("total") or 0):
            all_of = self.jira.comments(key)
            fields["comment"] = {**comment, "comments": all_of, "startAt": 0, "maxResults": len(all_of), "total": len(all_of)}
        lasting = {name: value for name, value in issue.items() if name in ("id", "key", "self")}
        page = {"startAt": 0, "maxResults": 1, "total": 1, "issues": [{**lasting, "fields": fields}]}
        write_json(self.folder / f"{key}.json", page)


def _updated(issue: dict[str, Any]) -> str:
    return str((issue.get("fields") or {}).get("updated") or "")


def _moment(stamp: str) -> float:
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        return float("-inf")


def _window(newest: str) -> str:
    """From when on to ask, as JQL writes it: minutes, in the zone that Jira's own stamps have; a minute earlier than the newest."""
    try:
        return (datetime.fromisoformat(newest) - timedelta(minutes=1)).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return ""
