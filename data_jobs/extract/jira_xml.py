"""Jira's export of a search as XML (RSS): each issue one document, in the form that ``jira`` gives. No other XML is read."""

from typing import Any

from data_jobs.extract import html
from data_jobs.extract.issue_text import Comment, discussion, display_name, filled
from data_jobs.extract.mail_headers import iso_of
from data_jobs.extract.part import Options, Part, UnknownFormat, Unreadable
from data_jobs.extract.record import finished


def extract(data: bytes, options: Options = Options()) -> list[Part]:
    """One document an issue, named by its key. Entities that the file defines are not followed."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, recover=False)
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise Unreadable(f"the XML is broken ({error}); export it again") from None
    items = root.findall("./channel/item")
    if root.tag != "rss" or not any(item.find("key") is not None for item in items):
        raise UnknownFormat("the XML is no export of Jira's issues, the only XML that is read; convert it to text or HTML")
    return finished(_part(item, number) for number, item in enumerate(items, 1))


def _part(item: Any, number: int) -> Part:
    key = _text(item, "key")
    if not key:
        return Part(text="", name=f"item {number}", problem="the item has no key, so it is no issue; export it again")
    summary = _text(item, "summary")
    title = f"{key}: {summary}" if summary else key
    comments = [
        Comment(display_name(one.get("author", "")), iso_of(one.get("created", "")), _markdown(one.text))
        for one in item.findall("./comments/comment")
    ]
    project = item.find("project")
    meta = {
        "key": key,
        "project": (project.get("key") if project is not None else None) or key.rpartition("-")[0],
        "type": _text(item, "type"),
        "status": _text(item, "status"),
        "priority": _text(item, "priority"),
        "resolution": _text(item, "resolution"),
        "labels": [one.text for one in item.findall("./labels/label") if one.text],
        "components": [one.text for one in item.findall("component") if one.text],
        "created": iso_of(_text(item, "created")),
        "updated": iso_of(_text(item, "updated")),
        "resolved": iso_of(_text(item, "resolved")),
        "parent": _text(item, "parent"),
        "subtasks": [one.text for one in item.findall("./subtasks/subtask") if one.text],
        "links": [
            {"type": links.get("description", ""), "key": one.text}
            for way in ("outwardlinks", "inwardlinks")
            for links in item.findall(f"./issuelinks/issuelinktype/{way}")
            for one in links.findall("./issuelink/issuekey")
            if one.text
        ],
    }
    meta = filled(meta) | ({"comments": len(comments)} if comments else {})
    return Part(text=discussion(title, _markdown(item.findtext("description")), comments), title=title, name=key, meta=meta)


def _text(item: Any, tag: str) -> str:
    return " ".join((item.findtext(tag) or "").split())


def _markdown(fragment: str | None) -> str:
    """A description or comment, which the export renders as HTML."""
    if not fragment or not fragment.strip():
        return ""
    page = f"<html><body><article>{fragment}</article></body></html>"
    try:
        return "\n\n".join(part.text for part in html.extract(page.encode("utf-8", "replace")))
    except Unreadable:
        return fragment
