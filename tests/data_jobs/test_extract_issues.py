"""Issues of GitHub and Bitbucket, in each way in which they are exported."""

import json
from typing import Any

import pytest

from data_jobs.extract import issues
from data_jobs.extract import json as json_format
from data_jobs.extract.part import Part

REST = {
    "number": 12, "title": "Lift  stops", "body": "It **stops**.\r\n\r\n- often", "state": "closed", "state_reason": "completed",
    "html_url": "https://github.com/council/lifts/issues/12", "url": "https://api.github.com/repos/council/lifts/issues/12",
    "labels": [{"name": "bug"}, "north"], "comments": 3, "milestone": {"title": "spring"}, "user": {"login": "kim"},
    "created_at": "2024-02-29T08:30:00Z", "updated_at": "2024-03-01T08:30:00Z", "closed_at": None,
    "comments_list": [{"user": {"login": "lee"}, "created_at": "2024-03-01T08:30:00Z", "body": "Looked at it."}],
}  # fmt: skip


def read(value: Any) -> list[Part]:
    return json_format.extract(json.dumps(value).encode())


def test_a_github_issue_keeps_its_markdown_and_its_comments() -> None:
    (part,) = read([REST])
    assert (part.name, part.title) == ("issue 12", "#12: Lift stops")
    assert part.text == "It **stops**.\n\n- often\n\n## Comment by lee, 2024-03-01\n\nLooked at it."
    assert part.meta == {
        "key": "#12", "project": "council/lifts", "type": "issue", "status": "closed",
        "resolution": "completed", "labels": ["bug", "north"],
        "milestone": "spring", "created": "2024-02-29T08:30:00+00:00", "updated": "2024-03-01T08:30:00+00:00",
        "url": "https://github.com/council/lifts/issues/12", "comments": 1, "comments_missing": 2,
    }  # fmt: skip


def test_what_gh_lists_is_read_with_its_nested_comments() -> None:
    listed = {
        "number": 5, "title": "T", "body": "B", "state": "OPEN",
        "url": "https://github.com/council/lifts/issues/5", "labels": [{"name": "BUG"}],
        "createdAt": "2024-02-29T08:30:00Z", "comments": [{"author": {"login": "lee"}, "body": "C", "createdAt": "2024-03-01T00:00:00Z"}],
    }  # fmt: skip
    (part,) = read([listed])
    assert part.text == "B\n\n## Comment by lee, 2024-03-01\n\nC"
    assert (part.meta["status"], part.meta["labels"], part.meta["created"]) == ("open", ["BUG"], "2024-02-29T08:30:00+00:00")
    nodes = {**listed, "labels": {"nodes": listed["labels"]}, "comments": {"nodes": listed["comments"]}}
    assert read([nodes]) == [part]


@pytest.mark.parametrize(
    "change",
    [{"pull_request": {"url": "x"}}, {"headRefName": "fix"}, {"html_url": "https://github.com/council/lifts/pull/12"}],
)
def test_pull_requests_are_marked(change: dict[str, Any]) -> None:
    part = issues.as_issue(REST | change)
    assert part.meta["pull_request"] is True
    assert part.meta["type"] == "pull request"
    assert "pull_request" not in issues.as_issue(REST).meta


def test_an_issue_without_a_body_is_its_title() -> None:
    assert issues.as_issue({"number": 1, "title": "Only this", "body": None}).text == "#1: Only this"


def test_bitbuckets_export_joins_comments_and_sets_aside_those_without_an_issue() -> None:
    export = {
        "issues": [
            {"id": 1, "title": "Lift", "content": "It *stops*.", "kind": "bug", "status": "new", "priority": "major", "component": "motor",
             "created_on": "2020-01-02T03:04:05.000000+00:00", "reporter": {"display_name": "Kim"}},
            {"id": 2, "title": "Door", "content": None, "kind": "task", "status": "resolved"},
        ],
        "comments": [
            {"id": 9, "issue": 1, "content": "Looked.", "created_on": "2020-01-03T00:00:00+00:00", "user": {"display_name": "Lee"}},
            {"id": 10, "issue": 1, "content": None, "user": None},
            {"id": 11, "issue": 3, "content": "lost"},
        ],
        "attachments": [], "logs": [], "meta": {"default_kind": "bug"}, "milestones": [], "versions": [], "components": [{"name": "motor"}],
    }  # fmt: skip
    first, second, lost = read(export)
    assert (first.name, first.text) == ("issue 1", "It *stops*.\n\n## Comment by Lee, 2020-01-03\n\nLooked.")
    assert first.meta == {
        "key": "#1", "type": "bug", "status": "new", "priority": "major", "components": ["motor"], "created": "2020-01-02T03:04:05+00:00",
        "comments": 2,
    }  # fmt: skip
    assert (second.text, second.meta["status"]) == ("#2: Door", "resolved")
    assert (lost.name, "issue '3'" in lost.problem) == ("comment 3", True)


def test_bitbuckets_rest_lists_are_read() -> None:
    value = {
        "id": 4,
        "title": "T",
        "content": {"raw": "B", "markup": "markdown"},
        "state": "open",
        "links": {"html": {"href": "https://x.example/4"}},
    }
    (part,) = read({"pagelen": 20, "values": [value]})
    assert (part.name, part.text, part.meta["url"]) == ("issue 4", "B", "https://x.example/4")


def test_issues_of_one_number_in_two_repositories_are_told_apart() -> None:
    assert [part.name for part in read([REST, REST])] == ["issue 12", "issue 12 (2)"]


@pytest.mark.parametrize(
    "value", [{"number": 4, "title": "T"}, {"number": "4", "title": "T", "body": ""}, {"number": 4, "body": ""}]
)
def test_what_only_resembles_an_issue_is_a_record(value: dict[str, Any]) -> None:
    assert not issues.is_issue(value)
    assert [part.name for part in read([value])] == ["item 1"]
