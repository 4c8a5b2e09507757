"""Jira, against a server on this machine that behaves like one: pages, edits, deletions, failures, both interfaces."""

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from cluster.errors import Forbidden, InvalidInput, NotFound, TreadleError, Unauthenticated, Unavailable
from cluster.settings import SourcesSettings
from data_jobs.sources import Gathered, gather, jira_rest
from data_jobs.sources.jira import Issues

TOKEN = "tok" + "en-" + "7" * 12
HOST = "127.0.0.1"
START = datetime(2024, 3, 1, 12, tzinfo=UTC)


class FakeJira:
    """Issues by key. ``zone`` is that of its stamps, ``profile`` that in which it reads JQL; ``before`` runs ahead of each answer and may
    give one of its own: a status with headers, or bytes of which the last few are not sent."""

    def __init__(self, cloud: bool = False) -> None:
        self.issues: dict[str, dict[str, Any]] = {}
        self.cloud, self.page = cloud, 50
        self.zone = self.profile = timezone(timedelta(hours=2))
        self.asked: list[dict[str, str]] = []
        self.clock = START
        self.before: Callable[[dict[str, str]], tuple[int, dict[str, str]] | None] = lambda _: None
        jira = self

        class Answering(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                jira.answer(self)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer((HOST, 0), Answering)
        self.base = f"http://{HOST}:{self.server.server_address[1]}/jira"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def edit(self, key: str, text: str, minutes: int = 1, **fields: Any) -> None:
        self.clock += timedelta(minutes=minutes)
        stamp = self.clock.astimezone(self.zone).strftime("%Y-%m-%dT%H:%M:%S.000%z")
        self.issues[key] = {
            "id": str(10000 + int(key.partition("-")[2])),
            "key": key,
            "expand": f"operations,{len(self.asked)}",
            "fields": {"summary": text, "updated": stamp, "lastViewed": "now", **fields},
        }

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        url = urlsplit(handler.path)
        query = {"path": url.path.removeprefix("/jira"), **{key: value[0] for key, value in parse_qs(url.query).items()}}
        query["authorization"] = handler.headers.get("Authorization", "")
        self.asked.append(query)
        status, body, headers, cut = 200, b"", {}, 0
        if made := self.before(query):
            status, headers = made
            cut = int(headers.pop("cut", 0))
        if status == 200:
            status, value = self.route(query)
            body = json.dumps(value).encode()
        handler.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(key, value)
        handler.end_headers()
        handler.wfile.write(body[: len(body) - cut])

    def route(self, query: dict[str, str]) -> tuple[int, Any]:
        version, _, path = query["path"].removeprefix("/rest/api/").partition("/")
        if path == "search":
            return (410, {"errorMessages": ["Removed."]}) if self.cloud else self.search(query)
        if version != ("3" if self.cloud else "2"):
            return 404, {}
        if path == "search/jql":
            return self.search(query)
        _, key, *rest = path.split("/")
        if key not in self.issues:
            return 404, {"errorMessages": ["Issue does not exist."]}
        if rest == ["comment"]:
            every = self.issues[key]["all_comments"]
            start = int(query["startAt"])
            return 200, {"startAt": start, "total": len(every), "comments": every[start : start + 2]}
        return 200, self.seen(key, query["fields"])

    def search(self, query: dict[str, str]) -> tuple[int, Any]:
        if "mistake" in query["jql"]:
            return 400, {"errorMessages": ["The field 'mistake' does not exist."], "errors": {}}
        keys = self.found(query["jql"])
        size = min(self.page, int(query["maxResults"]))
        start = int(query.get("nextPageToken", "t0")[1:]) if self.cloud else int(query["startAt"])
        page: dict[str, Any] = {"issues": [self.seen(key, query["fields"]) for key in keys[start : start + size]]}
        if not self.cloud:
            return 200, {**page, "startAt": start, "maxResults": size, "total": len(keys)}
        last = start + size >= len(keys)
        return 200, {**page, "isLast": last, **({} if last else {"nextPageToken": f"t{start + size}"})}

    def found(self, jql: str) -> list[str]:
        assert re.match(r'\(?project = "KB"', jql), jql
        keys = sorted(self.issues, key=lambda key: int(key.partition("-")[2]))
        if since := re.search(r'updated >= "([^"]+)"', jql):
            moment = datetime.strptime(since[1], "%Y-%m-%d %H:%M").replace(tzinfo=self.profile)
            keys = [key for key in keys if self.when(key) >= moment]
        return sorted(keys, key=self.when) if "ORDER BY updated" in jql else keys

    def when(self, key: str) -> datetime:
        return datetime.fromisoformat(self.issues[key]["fields"]["updated"])

    def seen(self, key: str, fields: str) -> dict[str, Any]:
        issue = self.issues[key]
        if fields == "*all":
            return {name: value for name, value in issue.items() if name != "all_comments"}
        return {"key": key, "fields": {"updated": issue["fields"]["updated"]}}

    def fetched(self) -> int:
        """Pages and issues asked for with everything, since the last time."""
        absent = "/rest/api/2/search" if self.cloud else ""
        count = sum(one.get("fields") == "*all" and one["path"] != absent for one in self.asked)
        self.asked.clear()
        return count


@pytest.fixture(params=["server", "cloud"])
def jira(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeJira]:
    monkeypatch.setattr(jira_rest, "FIRST_WAIT", 0.01)
    made = FakeJira(cloud=request.param == "cloud")
    for number in range(1, 121):
        made.edit(f"KB-{number}", f"Issue {number}")
    yield made
    made.server.shutdown()
    made.server.server_close()


def got(jira: FakeJira, spool: Path, query: str = "project=KB", **changes: Any) -> Gathered:
    settings = SourcesSettings(allow_hosts=(HOST,), allow_private_hosts=(HOST,), seconds=5, **changes)
    return gather([f"jira+{jira.base}?{query}"], spool, settings)


def bodies(gathered: Gathered) -> dict[str, bytes]:
    return {one.source: Path(one.path).read_bytes() for one in gathered.files}


def test_every_issue_is_a_file_like_an_exports_page(jira: FakeJira, tmp_path: Path) -> None:
    gathered = got(jira, tmp_path)
    assert len(gathered.files) == 120
    assert not gathered.refused
    page = json.loads(bodies(gathered)["KB-7.json"])
    stamp = jira.issues["KB-7"]["fields"]["updated"]
    assert page == {
        "startAt": 0,
        "maxResults": 1,
        "total": 1,
        "issues": [{"id": "10007", "key": "KB-7", "fields": {"summary": "Issue 7", "updated": stamp}}],
    }


def test_again_only_what_changed_is_fetched(jira: FakeJira, tmp_path: Path) -> None:
    before = got(jira, tmp_path)
    times = {one.path: Path(one.path).stat().st_mtime_ns for one in before.files}
    jira.edit("KB-5", "Edited")
    jira.edit("KB-121", "New")
    del jira.issues["KB-9"]
    jira.issues["KB-7"]["fields"]["lastViewed"] = "later"
    jira.fetched()
    after = got(jira, tmp_path)
    assert jira.fetched() == 1
    assert [one.source for one in after.files if times.get(one.path) != Path(one.path).stat().st_mtime_ns] == [
        "KB-121.json",
        "KB-5.json",
    ]
    assert {one.source for one in before.files} - {one.source for one in after.files} == {"KB-9.json"}
    assert b"Edited" in bodies(after)["KB-5.json"]
    assert bodies(got(jira, tmp_path / "fresh")) == bodies(after)


@pytest.mark.parametrize("hours", [-9, 9])
def test_a_jira_that_reads_times_in_another_zone_loses_nothing(jira: FakeJira, tmp_path: Path, hours: int) -> None:
    got(jira, tmp_path)
    jira.profile = timezone(timedelta(hours=2 + hours))
    jira.edit("KB-5", "Edited")
    assert b"Edited" in bodies(got(jira, tmp_path))["KB-5.json"]


def test_an_edit_while_pages_are_read_loses_nothing(jira: FakeJira, tmp_path: Path) -> None:
    """The first issue moves to the end, so that the first of the second page comes up into the page that was read."""

    def edit_once(query: dict[str, str]) -> None:
        if query.get("startAt") == "50" or query.get("nextPageToken") == "t50":
            jira.before = lambda _: None
            jira.edit("KB-1", "Moved")

    jira.before = edit_once
    gathered = got(jira, tmp_path)
    assert len(gathered.files) == 120
    assert b"Moved" in bodies(gathered)["KB-1.json"]


@pytest.mark.parametrize(
    "failure", [(500, {}), (200, {"cut": "30"}), (200, {"cut": "30", "Content-Length": "x"})], ids=["500", "cut", "endless"]
)
def test_a_page_that_fails_half_way_keeps_what_was_fetched(
    jira: FakeJira, tmp_path: Path, failure: tuple[int, dict[str, str]]
) -> None:
    place = "page 2" if jira.cloud else "startAt 50"

    def fail(query: dict[str, str]) -> tuple[int, dict[str, str]] | None:
        second = query.get("startAt") == "50" or query.get("nextPageToken") == "t50"
        return (failure[0], dict(failure[1])) if second else None

    jira.before = fail
    gathered = got(jira, tmp_path)
    assert len(gathered.files) == 50
    (refused,) = gathered.refused
    assert refused.source == f"jira+{jira.base}?project=KB"
    assert refused.reason == "source_failed"
    assert f"{jira.base}, {place}: " in refused.detail
    assert refused.detail.endswith("4 times; what was fetched before is used, run it again to go on.")
    assert all(json.loads(body)["issues"] for body in bodies(gathered).values())
    jira.before = lambda _: None
    jira.fetched()
    whole = got(jira, tmp_path)
    assert jira.fetched() == 2
    assert not whole.refused
    assert bodies(whole) == bodies(got(jira, tmp_path / "fresh"))


def test_failures_that_pass_are_asked_again(jira: FakeJira, tmp_path: Path) -> None:
    failures = [(429, {"Retry-After": "0"}), (503, {"Retry-After": "Fri, 01 Mar 2024 12:00:00 GMT"}), (200, {"cut": "9"})]
    jira.before = lambda _: failures.pop() if failures else None
    assert len(got(jira, tmp_path).files) == 120
    assert not failures


def test_retry_after_is_waited_for() -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=100)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert jira_rest._asked_for("7", 1.0) == 7.0
    assert 90 < jira_rest._asked_for(soon, 1.0) <= 100
    assert jira_rest._asked_for("", 1.0) == jira_rest._asked_for("soon", 1.0) == 1.0


def test_nothing_to_be_had_is_an_error(jira: FakeJira, tmp_path: Path) -> None:
    jira.before = lambda _: (500, {})
    with pytest.raises(Unavailable, match=r"Nothing could be had from jira\+.*: answered 500, 4 times"):
        got(jira, tmp_path)


@pytest.mark.parametrize(
    ("made", "kind", "says"),
    [
        ((401, {}), Unauthenticated, "the user or the token was refused; set jira_user and jira_token"),
        ((200, {"X-Seraph-LoginReason": "AUTHENTICATED_FAILED"}), Unauthenticated, "the user or the token was refused"),
        ((403, {}), Forbidden, "the token does not allow this"),
        (
            (302, {"Location": "https://login.example/?os_token=1"}),
            InvalidInput,
            r"leads to https://login.example/\?os_token=…; give",
        ),
        ((404, {}), NotFound, "There is no Jira at http"),
    ],
)
def test_what_no_retry_would_mend_is_said_at_once(
    jira: FakeJira, tmp_path: Path, made: tuple[int, dict[str, str]], kind: type[TreadleError], says: str
) -> None:
    got(jira, tmp_path)
    jira.before = lambda _: made
    jira.asked.clear()
    with pytest.raises(kind, match=says) as caught:
        got(jira, tmp_path, jira_token=TOKEN)
    assert TOKEN not in caught.value.message
    assert len(jira.asked) <= 2


def test_a_jql_with_a_mistake_says_what_jira_says(jira: FakeJira, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the search was refused: The field 'mistake' does not exist"):
        got(jira, tmp_path, "jql=mistake%20%3D%201")


def test_a_jql_keeps_its_words_and_loses_its_order(jira: FakeJira, tmp_path: Path) -> None:
    jql = 'project = "KB" AND summary ~ "order by hand"'
    got(jira, tmp_path, f"jql={quote(jql + ' ORDER BY created DESC')}")
    assert {one["jql"].partition(" ORDER BY ")[0] for one in jira.asked} == {jql}


@pytest.mark.parametrize("user", ["", "me@example.org"])
def test_the_token_is_sent_and_seen_nowhere(jira: FakeJira, tmp_path: Path, user: str) -> None:
    gathered = got(jira, tmp_path, jira_user=user, jira_token=TOKEN)
    sent = f"Basic {base64.b64encode(f'{user}:{TOKEN}'.encode()).decode()}" if user else f"Bearer {TOKEN}"
    assert {one["authorization"] for one in jira.asked} == {sent}
    settings = SourcesSettings(allow_hosts=(HOST,), jira_token=TOKEN)  # type: ignore[arg-type]
    assert TOKEN not in repr(gathered) + repr(Issues.parse(f"jira+{jira.base}?project=KB", settings))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


def test_comments_that_a_search_leaves_out_are_fetched(jira: FakeJira, tmp_path: Path) -> None:
    every = [{"id": str(number), "body": f"Comment {number}"} for number in range(5)]
    jira.edit("KB-3", "Long", comment={"comments": every[:2], "total": 5, "maxResults": 2, "startAt": 0})
    jira.issues["KB-3"]["all_comments"] = every
    page = json.loads(bodies(got(jira, tmp_path))["KB-3.json"])
    assert page["issues"][0]["fields"]["comment"] == {"comments": every, "total": 5, "maxResults": 5, "startAt": 0}


def test_a_listing_without_any_issue_removes_none(jira: FakeJira, tmp_path: Path) -> None:
    """What an anonymous user sees after the token has ended, on some servers."""
    got(jira, tmp_path)
    jira.issues.clear()
    gathered = got(jira, tmp_path)
    assert len(gathered.files) == 120
    assert "Jira lists no issue where 120 were known, so none was removed" in gathered.refused[0].detail


@pytest.mark.parametrize("jira", ["server"], indirect=True)
def test_a_listing_that_will_not_hold_still_removes_none(jira: FakeJira, tmp_path: Path) -> None:
    got(jira, tmp_path)
    gone = iter(range(10, 20))

    def delete(query: dict[str, str]) -> None:
        if query.get("fields") == "updated" and query["startAt"] == "50":
            del jira.issues[f"KB-{next(gone)}"]

    jira.before = delete
    gathered = got(jira, tmp_path)
    assert len(gathered.files) == 120
    assert "changed each time it was read" in gathered.refused[0].detail
    jira.before = lambda _: None
    assert len(got(jira, tmp_path).files) == 117


def test_an_issue_with_no_issues_key_is_refused(jira: FakeJira, tmp_path: Path) -> None:
    jira.issues["KB-1"]["key"] = "../../KB-1"
    gathered = got(jira, tmp_path)
    assert [(one.source, one.reason) for one in gathered.refused] == [("../../KB-1", "bad_name")]
    assert not list(tmp_path.glob("KB*"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("jira+https://127.0.0.1", "does not say which issues; end it with"),
        ("jira+https://127.0.0.1?project=KB&jql=x", "does not say which issues"),
        ("jira+https://127.0.0.1?project=KB&project=HR", "does not say which issues"),
        ("jira+https://127.0.0.1?project=K%22B", "is not the key of a project"),
        ("jira+https://elsewhere.example?project=KB", "The host 'elsewhere.example' is not allowed"),
        ("jira+http://elsewhere.example?project=KB", "The host 'elsewhere.example' is not allowed"),
        ("jira+ftp://127.0.0.1?project=KB", "is not an address"),
        ("jira+https://me:pw@127.0.0.1?project=KB", "with a user or password in it"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(tmp_path: Path, given: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        gather([given], tmp_path, SourcesSettings(allow_hosts=(HOST,)))
    assert "pw" not in caught.value.message
