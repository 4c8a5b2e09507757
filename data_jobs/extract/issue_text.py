"""What the issues of every tracker have in common as documents: a description, then the comments in their order."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

_NAMES = ("displayName", "display_name", "nickname", "login", "name", "username")
_KINDS = ("accountType", "type")


class Comment(NamedTuple):
    author: str
    date: str
    text: str


def discussion(title: str, description: str, comments: Iterable[Comment]) -> str:
    """The text of an issue, as Markdown. An issue of which there is only the title is that title."""
    blocks = [description.strip()]
    for comment in comments:
        if comment.text.strip():
            when = f", {comment.date[:10]}" if comment.date else ""
            blocks.append(f"## Comment by {comment.author}{when}\n\n{comment.text.strip()}")
    return "\n\n".join(block for block in blocks if block) or title


def display_name(user: Any) -> str:
    """How a tracker shows the user: never an e-mail address; what kind of account it is where there is no name."""
    if isinstance(user, str):
        user = {"name": user}
    if not isinstance(user, dict):
        return "someone"
    names = (user.get(key) for key in _NAMES)
    shown = next((" ".join(name.split()) for name in names if isinstance(name, str) and name.strip() and "@" not in name), "")
    kinds = (user.get(key) for key in _KINDS)
    return shown or next((f"a {kind}" for kind in kinds if isinstance(kind, str) and kind.isalpha()), "someone")


def iso(value: Any) -> str:
    """A tracker's date in ISO 8601; as it was when it cannot be read; nothing for none."""
    if not isinstance(value, str):
        return ""
    try:
        return datetime.fromisoformat(value.strip()).isoformat()
    except ValueError:
        return value


def filled(meta: dict[str, Any]) -> dict[str, Any]:
    """The meta without what is empty."""
    return {key: value for key, value in meta.items() if value not in (None, "", [], {})}
