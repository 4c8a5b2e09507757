"""Runs, paragraphs and tables of a Word document as Markdown text. Knows no XML."""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from data_jobs.extract.docx_styles import Look

_CODE = ("code", "monospaced")
_SAFE_LINK = re.compile(r"(?:https?|ftp|mailto):[^\s()<>]+$", re.IGNORECASE)


class Run(NamedTuple):
    """A stretch of text of one look; ``link`` is where it leads."""

    text: str
    look: Look
    link: str = ""


class Block(NamedTuple):
    """A paragraph or table as Markdown. ``kind`` tells what may be joined: "code" lines, "monospaced" ones (code if there are
    several), "item"s of a list; all else stands by itself."""

    kind: str
    text: str
    aside: bool


def cell_text(blocks: list[Block]) -> str:
    words = " ".join(_marked(one.text, (True, False, False)) if one.kind in _CODE and one.text else one.text for one in blocks)
    return " ".join(words.split()).replace("|", "\\|")


def inline(runs: list[Run]) -> str:
    """Runs as Markdown; neighbours of one look as one. White space stays outside of the marks."""
    text = ""
    for (look, link), same in groupby(runs, key=lambda run: (_seen(run.look), run.link)):
        words = "".join(run.text for run in same)
        inner = words.strip()
        if not inner:
            text += words
            continue
        before, after = words[: len(words) - len(words.lstrip())], words[len(words.rstrip()) :]
        text += before + _linked(_marked(inner, look), inner, link) + after
    return text.strip()


def _seen(look: Look) -> tuple[bool, bool, bool]:
    return bool(look.code), bool(look.bold), bool(look.italic)


def _marked(words: str, look: tuple[bool, bool, bool]) -> str:
    code, bold, italic = look
    if code:
        ticks = "`" * (1 + max(map(len, re.findall("`+", words)), default=0))
        space = " " if "`" in words else ""
        words = f"{ticks}{space}{words}{space}{ticks}"
    marks = "**" * bold + "*" * italic
    return marks + words + marks[::-1]


def _linked(marked: str, words: str, link: str) -> str:
    if not link or not _SAFE_LINK.match(link) or words in (link, link.removeprefix("mailto:")):
        return marked
    return f"[{marked}]({link})"


def joined(blocks: list[Block]) -> str:
    """Blocks as one text: code lines in one fence, list items line by line, asides as block quotes."""
    pieces: list[str] = []
    for aside, some in groupby(blocks, key=lambda block: block.aside):
        inner = "\n\n".join(filter(None, (_run_of(kind, [one.text for one in same]) for kind, same in _by_kind(some))))
        if inner:
            pieces.append(re.sub("^", "> ", inner, flags=re.MULTILINE) if aside else inner)
    return "\n\n".join(pieces)


def _by_kind(blocks: Iterable[Block]) -> Iterator[tuple[str, list[Block]]]:
    for kind, same in groupby(blocks, key=lambda block: block.kind):
        yield kind, list(same)


def _run_of(kind: str, texts: list[str]) -> str:
    if kind == "monospaced" and len(texts) == 1:
        return _marked(texts[0].strip(), (True, False, False))
    if kind not in _CODE:
        return ("\n" if kind == "item" else "\n\n").join(texts)
    code = "\n".join(texts).strip("\n")
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
    return f"{fence}\n{code}\n{fence}" if code.strip() else ""
