"""Jira's pages, issues and XML: each issue one document, accounted for."""

import json
from typing import Any

import pytest

from data_jobs.extract import jira, jira_xml, jsonl
from data_jobs.extract import json as json_format
from data_jobs.extract.part import UnknownFormat, Unreadable


def issue(key: str = "LIFT-1", **fields: Any) -> dict[str, Any]:
    return {"key": key, "id": "1", "fields": {"summary": "Lift stops", "description": "It *stops*.", **fields}}


def adf(words: str) -> dict[str, Any]:
    return {"type": "doc", "version": 1, "content": [{"type": "paragraph", "content": [{"type": "text", "text": words}]}]}


def test_an_issue_has_its_comments_in_order_and_its_fields_in_meta() -> None:
    comments = [
        {
            "author": {"displayName": "Second", "emailAddress": "second@mail.example"},
            "created": "2024-03-02T10:00:00.000+0000",
            "body": "later",
        },
        {"author": {"displayName": "First"}, "created": "2024-03-01T10:00:00.000+0000", "body": "{noformat}log{noformat}"},
        {"author": {"displayName": "third@mail.example", "accountType": "customer"}, "created": None, "body": "first"},
        {"author": None, "body": " "},
    ]
    made = issue(
        project={"key": "LIFT"}, issuetype={"name": "Bug"}, status={"name": "Open"}, priority={"name": "High"}, resolution=None,
        labels=["north", 5], components=[{"name": "motor"}], created="2024-02-29T08:30:00.000+0100", updated="2024-03-02T10:00:00.000+0000",
        parent={"key": "LIFT-0"}, subtasks=[{"key": "LIFT-7"}],
        issuelinks=[
            {"type": {"name": "Blocks", "inward": "is blocked by", "outward": "blocks"}, "outwardIssue": {"key": "LIFT-8"}},
            {"type": {"name": "Blocks", "inward": "is blocked by", "outward": "blocks"}, "inwardIssue": {"key": "LIFT-9"}},
        ],
        comment={"comments": comments, "total": 6},
    )  # fmt: skip
    (part,) = jira.parts_of_page({"startAt": 0, "issues": [made]})
    assert (part.name, part.title) == ("LIFT-1", "LIFT-1: Lift stops")
    assert part.text.split("\n\n") == [
        "It **stops**.", "## Comment by a customer", "first", "## Comment by First, 2024-03-01", "```\nlog\n```",
        "## Comment by Second, 2024-03-02", "later",
    ]  # fmt: skip
    assert part.meta == {
        "key": "LIFT-1", "project": "LIFT", "type": "Bug", "status": "Open", "priority": "High", "labels": ["north"],
        "components": ["motor"], "created": "2024-02-29T08:30:00+01:00", "updated": "2024-03-02T10:00:00+00:00", "parent": "LIFT-0",
        "subtasks": ["LIFT-7"], "links": [{"type": "blocks", "key": "LIFT-8"}, {"type": "is blocked by", "key": "LIFT-9"}],
        "comments": 4, "comments_missing": 2,
    }  # fmt: skip
    assert "@mail.example" not in part.text


def test_cloud_and_server_give_the_same_document() -> None:
    body = {"comments": [{"author": {"displayName": "A"}, "created": "2024-03-01T10:00:00.000+0000", "body": "said"}]}
    rich = {"comments": [{**body["comments"][0], "body": adf("said")}]}
    server = issue(description="It stops.", comment=body)
    cloud = issue(description=adf("It stops."), comment=rich)
    assert jira.parts_of_issue(server) == jira.parts_of_issue(cloud)


def test_every_issue_of_a_page_is_accounted_for() -> None:
    page = {
        "issues": [
            issue("A-1"),
            issue("A-2", description=None),
            {"key": "A-3", "deleted": True},
            {"key": "A-4"},
            "x",
            issue("A-1"),
        ]
    }
    parts = jira.parts_of_page(page)
    assert [(part.name, bool(part.problem)) for part in parts] == [
        ("A-1", False), ("A-2", False), ("issue 4", True), ("issue 5", True), ("A-1 (2)", False),
    ]  # fmt: skip
    assert parts[1].text == "A-2: Lift stops"


def test_pages_lists_and_lines_are_read_alike() -> None:
    issues = [issue("A-1"), issue("A-2")]
    page = {"expand": "names", "startAt": 0, "maxResults": 50, "total": 2, "issues": issues}
    want = jira.parts_of_page(page)
    assert json_format.extract(json.dumps(page).encode()) == want
    assert json_format.extract(json.dumps(issues).encode()) == want
    assert jsonl.extract("\n".join(map(json.dumps, issues)).encode()) == want
    assert json_format.extract(json.dumps({"issues": [], "isLast": True}).encode()) == []
    assert json_format.extract(json.dumps({"key": "A-9", "deleted": True}).encode()) == []


@pytest.mark.parametrize(
    "value", [{"issues": ["x"]}, {"issues": []}, {"issues": [{"id": 1}]}, {"key": "A-1"}, {"key": "no key", "fields": {}}]
)
def test_what_only_resembles_jira_is_none(value: dict[str, Any]) -> None:
    assert not jira.is_page(value)
    assert not jira.is_issue(value)


XML = """<?xml version="1.0"?><rss version="0.92"><channel><title>Search</title>
<item><title>[LIFT-1] Lift stops</title><project id="1" key="LIFT">Lifts</project><key id="1">LIFT-1</key>
<summary>Lift &amp; stops</summary>
<description>&lt;p&gt;It &lt;b&gt;stops&lt;/b&gt; on two.&lt;/p&gt;</description><type id="1">Bug</type><status id="1">Open</status>
<created>Thu, 29 Feb 2024 08:30:00 +0100</created><labels><label>north</label></labels>
<comments><comment id="1" author="kim" created="Fri, 1 Mar 2024 10:00:00 +0000">&lt;p&gt;Looked at it.&lt;/p&gt;</comment></comments>
<issuelinks><issuelinktype id="1"><name>Blocks</name><outwardlinks description="blocks"><issuelink><issuekey id="2">LIFT-8</issuekey>
</issuelink></outwardlinks></issuelinktype></issuelinks></item>
<item><title>no issue</title></item></channel></rss>"""


def test_the_xml_export_gives_the_same_form() -> None:
    first, second = jira_xml.extract(XML.encode())
    assert (first.name, first.title) == ("LIFT-1", "LIFT-1: Lift & stops")
    assert "stops" in first.text
    assert first.text.endswith("## Comment by kim, 2024-03-01\n\nLooked at it.")
    assert first.meta == {
        "key": "LIFT-1", "project": "LIFT", "type": "Bug", "status": "Open", "labels": ["north"], "created": "2024-02-29T08:30:00+01:00",
        "links": [{"type": "blocks", "key": "LIFT-8"}], "comments": 1,
    }  # fmt: skip
    assert (second.name, bool(second.problem)) == ("item 2", True)


def test_entities_of_an_xml_file_are_not_followed(tmp_path: Any) -> None:
    (tmp_path / "secret").write_text("planted words")
    outside = f'<!DOCTYPE rss [<!ENTITY x SYSTEM "file://{tmp_path}/secret">]>'
    (part, _) = jira_xml.extract(XML.replace('<?xml version="1.0"?>', outside).replace("Lift &amp; stops", "a &x; b").encode())
    assert "planted" not in part.title + part.text
    names = [f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10)]
    bomb = f'<!DOCTYPE rss [<!ENTITY e0 "words">{"".join(names)}]>'
    with pytest.raises(Unreadable, match="XML is broken"):
        jira_xml.extract(XML.replace('<?xml version="1.0"?>', bomb).replace("Lift &amp; stops", "a &e9; b").encode())


def test_other_xml_is_an_unknown_format() -> None:
    with pytest.raises(UnknownFormat, match="no export of Jira"):
        jira_xml.extract(b"<rss><channel><item><title>news</title></item></channel></rss>")
    with pytest.raises(Unreadable, match="XML is broken"):
        jira_xml.extract(XML.encode()[:200])
