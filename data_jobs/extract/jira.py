"""Jira's issues: pages of a REST search, lists and lines of issues, from Server (wiki markup) and Cloud (ADF).

Each issue is one document, named by its key. Work logs, history, votes, watchers and attachments are not read. The source that
pages through a live Jira keeps the pages in this same form.
"""

import re
from typing import Any

from data_jobs.extract import adf, wiki_markup
from data_jobs.extract.issue_text import Comment, discussion, display_name, filled, iso
from data_jobs.extract.part import Part
from data_jobs.extract.record import finished, too_deep

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*-\d+")


def is_page(value: dict[str, Any]) -> bool:
    """Whether this is a page of a search: a list of issues of which the first that is an object looks like Jira's."""
    issues = value.get("issues")
    if not isinstance(issues, list):
        return False
    first = next((issue for issue in issues if isinstance(issue, dict)), None)
    return is_issue(first) if first is not None else not issues and ("isLast" in value or "startAt" in value)


def is_issue(value: dict[str, Any]) -> bool:
    """Whether this is an issue, or what is left of one that was deleted."""
    key = value.get("key")
    known = isinstance(value.get("fields"), dict) or value.get("deleted") is True
    return known and isinstance(key, str) and _KEY.fullmatch(key) is not None


def parts_of_page(page: dict[str, Any]) -> list[Part]:
    """The documents of ``{"issues": […]}``: one an issue, none for a deleted one, a problem for what is no issue."""
    issues = page.get("issues")
    parts: list[Part] = []
    for number, issue in enumerate(issues if isinstance(issues, list) else [], 1):
        if isinstance(issue, dict) and is_issue(issue) and not too_deep(issue):
            parts += parts_of_issue(issue)
        else:
            problem = "the issue has no key or no fields, or is nested too deep; export it again"
            parts.append(Part(text="", name=f"issue {number}", problem=problem))
    return finished(parts)


def parts_of_issue(issue: dict[str, Any]) -> list[Part]:
    """The issue's document; none when it is marked as deleted."""
    if issue.get("deleted") is True:
        return []
    fields, key = issue["fields"], issue["key"]
    summary = " ".join(str(fields.get("summary") or "").split())
    title = f"{key}: {summary}" if summary else key
    comments, missing = _comments(fields.get("comment"))
    meta = {
        "key": key,
        "project": _of(fields.get("project"), "key") or key.rpartition("-")[0],
        "type": _of(fields.get("issuetype"), "name"),
        "status": _of(fields.get("status"), "name"),
        "priority": _of(fields.get("priority"), "name"),
        "resolution": _of(fields.get("resolution"), "name"),
        "labels": [label for label in _list(fields.get("labels")) if isinstance(label, str)],
        "components": [name for one in _list(fields.get("components")) if (name := _of(one, "name"))],
        "created": iso(fields.get("created")),
        "updated": iso(fields.get("updated")),
        "resolved": iso(fields.get("resolutiondate")),
        "parent": _of(fields.get("parent"), "key"),
        "subtasks": [child for one in _list(fields.get("subtasks")) if (child := _of(one, "key"))],
        "links": [link for one in _list(fields.get("issuelinks")) for link in _links(one)],
        "comments": len(comments),
        "comments_missing": missing,
    }
    text = discussion(title, rich_text(fields.get("description")), comments)
    return [Part(text=text, title=title, name=key, meta={k: v for k, v in filled(meta).items() if v != 0})]


def rich_text(value: Any) -> str:
    """Markdown of a description or comment, whichever way this Jira writes them."""
    if isinstance(value, str):
        return wiki_markup.to_markdown(value)
    return adf.to_markdown(value) if adf.is_adf(value) else ""


def _comments(field: Any) -> tuple[list[Comment], int]:
    """The comments that came with the issue, oldest first, and how many did not come."""
    given = _list(field.get("comments")) if isinstance(field, dict) else _list(field)
    found = [
        Comment(display_name(one.get("author")), iso(one.get("created")), rich_text(one.get("body")))
        for one in given
        if isinstance(one, dict)
    ]
    total = field.get("total") if isinstance(field, dict) else None
    return sorted(found, key=lambda one: one.date), max(0, total - len(given)) if isinstance(total, int) else 0


def _links(link: Any) -> list[dict[str, str]]:
    kind = link.get("type") if isinstance(link, dict) else None
    sides = (("outwardIssue", "outward"), ("inwardIssue", "inward"))
    found = (
        [(_of(kind, way) or _of(kind, "name"), _of(link.get(side), "key")) for side, way in sides]
        if isinstance(link, dict)
        else []
    )
    return [{"type": way, "key": key} for way, key in found if key]


def _of(value: Any, key: str) -> str:
    inner = value.get(key) if isinstance(value, dict) else None
    return inner if isinstance(inner, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
