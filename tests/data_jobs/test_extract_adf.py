"""Atlassian Document Format to Markdown."""

from typing import Any

import pytest

from data_jobs.extract.adf import is_adf, to_markdown


def text(words: str, *marks: str) -> dict[str, Any]:
    return {"type": "text", "text": words, "marks": [{"type": mark} for mark in marks]}


def node(kind: str, *content: dict[str, Any], **attrs: Any) -> dict[str, Any]:
    return {"type": kind, "attrs": attrs, "content": list(content)}


def p(*content: dict[str, Any]) -> dict[str, Any]:
    return node("paragraph", *content)


LINK = {"type": "text", "text": "docs", "marks": [{"type": "link", "attrs": {"href": "https://x.example"}}, {"type": "strong"}]}
CELLS = [node("tableHeader", p(text("House"))), node("tableHeader", p(text("Rent")))]
ROW = [node("tableCell", p(text("Oak")), p(text("north"))), node("tableCell", p(text("a|b")))]


@pytest.mark.parametrize(
    ("blocks", "markdown"),
    [
        ([node("heading", text("Top"), level=2), p(text("a "), text("b", "strong"), text(" c"))], "## Top\n\na **b** c"),
        ([p(text("x "), text(" em ", "em"), text("y", "strike"), text("z*", "code", "strong"))], "x  *em* ~~y~~`z*`"),
        ([p(LINK)], "[**docs**](https://x.example)"),
        ([p(text("a"), node("hardBreak"), text("b"))], "a\nb"),
        (
            [
                node("bulletList", node("listItem", p(text("a")), node("orderedList", node("listItem", p(text("b")))))),
                p(text("c")),
            ],
            "- a\n  1. b\n\nc",
        ),
        (
            [node("taskList", node("taskItem", text("do"), state="DONE"), node("taskItem", text("more"), state="TODO"))],
            "- [x] do\n- [ ] more",
        ),
        ([node("codeBlock", text("x = 1\ny"), language="python")], "```python\nx = 1\ny\n```"),
        ([node("blockquote", p(text("a")), p(text("b")))], "> a\n>\n> b"),
        ([node("panel", p(text("careful")), panelType="warning"), node("rule")], "careful\n\n---"),
        ([node("expand", p(text("inner")), title="More")], "**More**\n\ninner"),
        (
            [node("table", node("tableRow", *CELLS), node("tableRow", *ROW))],
            "| House | Rent |\n| --- | --- |\n| Oak north | a\\|b |",
        ),
        ([p(node("mention", id="5b10", text="@Kim"), text(" "), node("mention", id="5b11"))], "@Kim @user"),
        (
            [p(node("emoji", shortName=":smile:"), node("status", text="DONE"), node("date", timestamp="1709164800000"))],
            ":smile:DONE2024-02-29",
        ),
        ([p(node("inlineCard", url="https://x.example")), node("mediaSingle", node("media", id="1"))], "https://x.example"),
        ([node("fromTheFuture", p(text("kept")))], "kept"),
        ([text("bare"), p(text("block"))], "bare\n\nblock"),
        ([], ""),
    ],
)
def test_every_kind_of_node_is_read(blocks: list[dict[str, Any]], markdown: str) -> None:
    document = {"type": "doc", "version": 1, "content": blocks}
    assert is_adf(document)
    assert to_markdown(document) == markdown


def test_other_values_are_no_documents() -> None:
    assert not any(map(is_adf, [None, "doc", [], {}, {"type": "paragraph"}]))
