"""Issues of GitHub (REST lists, ``gh issue list --json``) and Bitbucket (``db-1.0.json``, REST): each one document; Markdown is kept."""

import re
from typing import Any

from data_jobs.extract.issue_text import Comment, discussion, display_name, filled, iso
from data_jobs.extract.part import Part

_REPOSITORY = re.compile(r"https?://[^/\s]+/(?:repos/)?([^/\s]+/[^/\s]+)/(?:issues|pull|pulls)/")


def is_issue(value: dict[str, Any]) -> bool:
    """Whether this is an issue or pull request as GitHub or Bitbucket give them."""
    if not isinstance(value.get("title"), str):
        return False
    content = value.get("content")
    github = _is_number(value.get("number")) and ("body" in value or "html_url" in value)
    return github or (_is_number(value.get("id")) and isinstance(content, dict) and "raw" in content)


def is_bitbucket_export(value: dict[str, Any]) -> bool:
    """Whether this is the database of a repository's issues that Bitbucket exports."""
    issues, comments = value.get("issues"), value.get("comments")
    known = isinstance(issues, list) and isinstance(comments, list)
    return known and all(isinstance(one, dict) and "id" in one and "title" in one for one in issues)


def parts_of_bitbucket(export: dict[str, Any]) -> list[Part]:
    """One document an issue with its comments; a comment without its issue is set aside."""
    comments: dict[Any, list[dict[str, Any]]] = {}
    parts = []
    known = {str(issue["id"]) for issue in export["issues"]}
    for number, comment in enumerate(export["comments"], 1):
        issue = str(comment.get("issue")) if isinstance(comment, dict) else ""
        if issue in known:
            comments.setdefault(issue, []).append(comment)
        else:
            problem = f"the comment is on issue '{issue}', which is not in the export; export it again"
            parts.append(Part(text="", name=f"comment {number}", problem=problem))
    return [as_issue({**issue, "comments": comments.get(str(issue["id"]), [])}) for issue in export["issues"]] + parts


def as_issue(issue: dict[str, Any]) -> Part:
    """The issue's document, named by its number. A pull request says so in ``meta``."""
    number = issue.get("number", issue.get("id"))
    url = _string(issue.get("html_url")) or _string(issue.get("url")) or _url(issue.get("links"))
    pull = "pull_request" in issue or "headRefName" in issue or "/pull/" in url
    title = f"#{number}: {' '.join(str(issue['title']).split())}"
    given = [issue.get("comments_list"), issue.get("comments")]
    comments = [_comment(one) for each in given for one in _nodes(each) if isinstance(one, dict)]
    repository = _REPOSITORY.match(url)
    told = issue.get("comments")
    meta = {
        "key": f"#{number}",
        "project": repository[1] if repository else "",
        "type": "pull request" if pull else _named(issue.get("kind")) or _named(issue.get("type")) or "issue",
        "status": (_named(issue.get("state")) or _named(issue.get("status"))).lower(),
        "priority": _named(issue.get("priority")),
        "resolution": (_named(issue.get("state_reason")) or _named(issue.get("stateReason"))).lower(),
        "labels": [label for one in _nodes(issue.get("labels")) if (label := _named(one))],
        "components": [name for name in [_named(issue.get("component"))] if name],
        "milestone": _named(issue.get("milestone")),
        "created": _date(issue, "created_at", "createdAt", "created_on"),
        "updated": _date(issue, "updated_at", "updatedAt", "updated_on", "content_updated_on"),
        "resolved": _date(issue, "closed_at", "closedAt"),
        "url": url,
    }
    meta = filled(meta) | ({"pull_request": True} if pull else {}) | ({"comments": len(comments)} if comments else {})
    if _is_number(told) and told > len(comments):
        meta["comments_missing"] = told - len(comments)
    body = issue.get("body") if "body" in issue else issue.get("content")
    return Part(text=discussion(title, _markdown(body), comments), title=title, name=f"issue {number}", meta=meta)


def _comment(comment: dict[str, Any]) -> Comment:
    body = comment.get("body") if "body" in comment else comment.get("content")
    author = comment.get("user") or comment.get("author")
    return Comment(display_name(author), _date(comment, "created_at", "createdAt", "created_on"), _markdown(body))


def _markdown(value: Any) -> str:
    text = value.get("raw") if isinstance(value, dict) else value
    return text.replace("\r\n", "\n") if isinstance(text, str) else ""


def _date(value: dict[str, Any], *names: str) -> str:
    return next((iso(value[name]) for name in names if value.get(name)), "")


def _nodes(value: Any) -> list[Any]:
    """A list, or GraphQL's object around one."""
    inner = value.get("nodes") if isinstance(value, dict) else value
    return inner if isinstance(inner, list) else []


def _named(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("name") or value.get("title")
    return _string(value)


def _url(links: Any) -> str:
    html = links.get("html") if isinstance(links, dict) else None
    return _string(html.get("href")) if isinstance(html, dict) else ""


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
