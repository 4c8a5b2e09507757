"""The whole sentences, lists and commands of a passage, with their places. For templates, which must not ask about half a sentence.

Knows Markdown and plain text. A passage is a slice of a document: what stands at its rim counts only where it is certain to be whole.
"""

import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple

_BLOCK = re.compile(r"(?:(?!\n[ \t]*\n).)+", re.DOTALL)
_FENCE = re.compile(r"^[ \t]*(```|~~~).*?^[ \t]*\1[ \t]*$", re.MULTILINE | re.DOTALL)
_PROSE = re.compile(r"[ \t]{0,3}[\"'“(*_`]{0,2}\w")
_LISTED = re.compile(r"(?:[-*+•]|\d{1,3}[.)])[ \t]")
_END = re.compile(r"[.!?][\"'”’)*_`]{0,2}(?=\s+[\"'“(*_`]{0,2}[A-Z0-9]|\s*\Z)")
_SHORTENED = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|approx|dr|mr|mrs|ms|prof|st|no|fig|sec|ca|al|inc|ltd|co|bzw|z\.B)|\b[A-Z])\.\Z", re.I
)
_ITEM = re.compile(r"^[ \t]{0,3}(?P<mark>[-*+•]|\d{1,3}[.)])[ \t]+(?P<text>\S[^\n]*)$", re.MULTILINE)


class Piece(NamedTuple):
    """A part of a passage: ``text`` without marks and line breaks, and where it was."""

    text: str
    start: int
    end: int


class Listed(NamedTuple):
    """A list with the line before it, which ends in a colon (or is "")."""

    intro: str
    items: tuple[str, ...]
    numbered: bool
    start: int
    end: int


def plain(text: str) -> str:
    """One line without Markdown's links, stresses, comments and footnotes. Code keeps its ticks."""
    text = re.sub(r"<!--.*?-->|\[\^[^\]]*\]", "", text, flags=re.DOTALL)
    text = re.sub(r"!?\[([^\]]*)\](?:\([^)\s]*\)|\[[^\]]*\])", r"\1", " ".join(text.split()))
    text = re.sub(r"(?<!\w)(\*\*|__)(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2", text)
    return re.sub(r"(?<![\w*`])([*_])(?=\S)([^*_`]+?)(?<=\S)\1(?![\w*`])", r"\2", text)


def without_fences(text: str) -> str:
    """The text with fenced code blanked out, character for character. An open fence hides all that follows."""
    text = _FENCE.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)
    opened = re.search(r"^[ \t]*(?:```|~~~)", text, re.MULTILINE)
    return text if opened is None else text[: opened.start()] + " " * (len(text) - opened.start())


def sentences(text: str, whole_start: bool) -> Iterator[Piece]:
    """Whole sentences of prose. ``whole_start``: whether the passage begins where a sentence does."""
    prose = without_fences(text)
    for block in _BLOCK.finditer(prose):
        body, start = block.group(), block.start() + len(block.group()) - len(block.group().lstrip())
        body = body.strip()
        if (
            not _PROSE.match(body)
            or _LISTED.match(body)
            or "|" in body
            or re.search(r"^[ \t]*(?:[-*+>#•]|\d{1,3}[.)])[ \t]", body, re.M)
        ):
            continue
        first = start > 0 or whole_start
        for piece in _cut(body, start):
            if first and piece.text[:1].isalnum() and not piece.text[:1].islower():
                yield piece
            first = True


def _cut(body: str, offset: int) -> Iterator[Piece]:
    start = 0
    for end in _END.finditer(body):
        if _SHORTENED.search(body[start : end.start() + 1]) and end.end() < len(body):
            continue
        yield Piece(plain(body[start : end.end()]), offset + start, offset + end.end())
        start = end.end() + len(body[end.end() :]) - len(body[end.end() :].lstrip())


def lists(text: str, whole_start: bool) -> Iterator[Listed]:
    """Lists of one-line items, whole: nothing of them lies before the passage, and something else follows inside it."""
    prose = without_fences(text)
    run: list[re.Match[str]] = []
    items = list(_ITEM.finditer(prose))
    for item, after in zip_longest(items, items[1:]):
        run.append(item)
        if after is not None and not prose[item.end() : after.start()].strip() and _numbered(item) == _numbered(after):
            continue
        found = _listed(prose, run, whole_start)
        if found is not None:
            yield found
        run = []


def _numbered(item: re.Match[str]) -> bool:
    return item["mark"][0].isdigit()


def _listed(prose: str, run: list[re.Match[str]], whole_start: bool) -> Listed | None:
    above, numbers = prose[: run[0].start()], [re.sub(r"\D", "", one["mark"]) for one in run]
    block = re.split(r"\n[ \t]*\n", above.rstrip())[-1]
    whole = whole_start or len(block) < len(above.rstrip())
    introduced = whole and block.endswith(":") and not _LISTED.match(block.lstrip()) and block[:1].strip() != ""
    apart = bool(re.search(r"\n[ \t]*\n[ \t]*\Z", above)) and not _LISTED.match(block) and block[:1].strip() != ""
    ended = re.match(r"[ \t]*\n[ \t]*\n[ \t]*\S", prose[run[-1].end() :])
    if len(run) < 2 or not ended or not (introduced or apart):
        return None
    if _numbered(run[0]) and numbers != [str(number) for number in range(1, len(run) + 1)]:
        return None
    start = len(above.rstrip()) - len(block) if introduced else run[0].start()
    items = tuple(plain(one["text"]) for one in run)
    return Listed(plain(block) if introduced else "", items, _numbered(run[0]), start, run[-1].end())
