"""Atlassian Document Format (the rich text of Jira Cloud: a tree of JSON) to Markdown.

Pictures and layout go; what a node of an unknown kind contains stays. The caller sees to it that the tree is not too deep.
"""

from datetime import UTC, datetime
from typing import Any

from data_jobs.extract.wiki_markup import fenced, table_row

_BLOCKS = {
    "paragraph", "heading", "bulletList", "orderedList", "taskList", "decisionList", "listItem", "codeBlock", "blockquote", "panel",
    "rule", "table", "expand", "nestedExpand", "mediaSingle", "mediaGroup", "blockCard", "embedCard", "layoutSection", "layoutColumn",
}  # fmt: skip
_MARKS = {"strong": "**", "em": "*", "strike": "~~"}


def is_adf(value: Any) -> bool:
    """Whether this is a document in this format."""
    return isinstance(value, dict) and _type(value) == "doc"


def to_markdown(document: dict[str, Any]) -> str:
    """The Markdown of a description or comment."""
    return _blocks(_children(document)).strip()


def _type(node: dict[str, Any]) -> str:
    """The node's type; "" where it is none."""
    kind = node.get("type")
    return kind if isinstance(kind, str) else ""


def _blocks(nodes: list[dict[str, Any]], between: str = "\n\n") -> str:
    """Blocks apart from one another; runs of inline nodes among them are a paragraph."""
    out: list[str] = []
    run: list[dict[str, Any]] = []
    for node in nodes:
        if _type(node) in _BLOCKS:
            out += [_inline(run), _block(node)]
            run = []
        else:
            run.append(node)
    return between.join(block for block in [*out, _inline(run)] if block.strip())


def _block(node: dict[str, Any]) -> str:
    kind, children = node["type"], _children(node)
    if kind == "paragraph":
        return _inline(children)
    if kind == "heading":
        level = _attribute(node, "level")
        return "#" * (min(6, max(1, level)) if isinstance(level, int) else 1) + " " + " ".join(_inline(children).split())
    if kind in ("bulletList", "orderedList", "taskList", "decisionList"):
        return "\n".join(_item(child, "1. " if kind == "orderedList" else "- ") for child in children)
    if kind == "codeBlock":
        return fenced("".join(_text(child, "text") for child in children), _language(node))
    if kind == "blockquote":
        return "\n".join(f"> {line}".rstrip() for line in _blocks(children).split("\n"))
    if kind == "rule":
        return "---"
    if kind == "table":
        return "\n".join(line for row in children for line in _row(row))
    if kind in ("mediaSingle", "mediaGroup"):
        return ""
    if kind in ("blockCard", "embedCard"):
        return str(_attribute(node, "url") or "")
    title = _attribute(node, "title")
    return "\n\n".join(filter(None, [f"**{title}**" if isinstance(title, str) and title else "", _blocks(children)]))


def _item(node: dict[str, Any], mark: str) -> str:
    if _type(node) in ("bulletList", "orderedList", "taskList"):
        return "\n".join(f"  {line}" for line in _block(node).split("\n"))
    if _type(node) == "taskItem":
        mark += "[x] " if _attribute(node, "state") == "DONE" else "[ ] "
    indent = " " * (3 if mark.startswith("1") else 2)
    return mark + f"\n{indent}".join(_blocks(_children(node), between="\n").split("\n"))


def _row(row: dict[str, Any]) -> list[str]:
    cells = _children(row)
    header = bool(cells) and all(_type(cell) == "tableHeader" for cell in cells)
    return table_row([_blocks(_children(cell), between=" ").replace("|", "\\|") for cell in cells], header)


def _inline(nodes: list[dict[str, Any]]) -> str:
    return "".join(map(_run, nodes)).strip()


def _run(node: dict[str, Any]) -> str:
    kind = _type(node)
    if kind == "text":
        return _marked(_text(node, "text"), node.get("marks"))
    if kind == "hardBreak":
        return "\n"
    if kind == "mention":
        name = _attribute(node, "text")
        return "@" + (name.lstrip("@") if isinstance(name, str) and name.strip("@") else "user")
    if kind == "inlineCard":
        return str(_attribute(node, "url") or "")
    if kind == "date":
        return _day(_attribute(node, "timestamp"))
    for name in ("text", "shortName"):
        if isinstance(_attribute(node, name), str):
            return str(_attribute(node, name))
    return _blocks(_children(node))


def _marked(text: str, marks: Any) -> str:
    kinds = {_type(mark): mark for mark in marks if isinstance(mark, dict)} if isinstance(marks, list) else {}
    core = text.strip()
    if not core:
        return text
    start, end = text[: text.index(core)], text[text.index(core) + len(core) :]
    for kind, sign in {"code": "`"}.items() if "code" in kinds else _MARKS.items():
        core = f"{sign}{core}{sign}" if kind in kinds else core
    target = _attribute(kinds["link"], "href") if "link" in kinds else None
    return start + (f"[{core}]({target})" if isinstance(target, str) and target != core else core) + end


def _day(timestamp: Any) -> str:
    try:
        return datetime.fromtimestamp(int(timestamp) / 1000, UTC).date().isoformat()
    except (TypeError, ValueError, OverflowError, OSError):
        return ""


def _language(node: dict[str, Any]) -> str:
    language = _attribute(node, "language")
    return language if isinstance(language, str) and language.isalnum() else ""


def _children(node: dict[str, Any]) -> list[dict[str, Any]]:
    content = node.get("content")
    return [child for child in content if isinstance(child, dict)] if isinstance(content, list) else []


def _text(node: dict[str, Any], key: str) -> str:
    value = node.get(key)
    return value if isinstance(value, str) else ""


def _attribute(node: dict[str, Any], name: str) -> Any:
    attributes = node.get("attrs")
    return attributes.get(name) if isinstance(attributes, dict) else None
