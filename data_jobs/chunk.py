"""Chunking: a document into passages that follow its headings and keep sentences, table rows and code blocks whole.

Sizes are characters, or tokens of the embedder. ``passage.text == document.text[passage.start:passage.end]``, always. Heading lines are
not part of a passage's text; the path of headings above it is its ``heading``. What is longer than a passage may be is cut all the same,
and the passages say so (``cut``).
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from cluster.domain.documents import Document, Passage
from data_jobs.ruler import Characters, Ruler

_PLAIN = {"text/plain", "text/csv", "application/pdf", "message/rfc822", "application/mbox"}
"""Where a line that begins with # is no heading. Everything else is Markdown, or was made into it."""
_HEADING = re.compile(r"(#{1,6})[ \t]+(.*\S)[ \t]*")
_FENCE = re.compile(r"[ \t]{0,3}(```+|~~~+)")
_FENCED = re.compile(
    r"^[ \t]{0,3}(`{3,}|~{3,})[^\n]*\n(?:.*?\n)?(?:[ \t]{0,3}\1[`~]*[ \t]*$|\Z)|^[ \t]{0,3}(?:`{3,}|~{3,}).*\Z", re.M | re.S
)
# A unit ends at a line's end, or after . ! ? (and closing marks) before white space and something that can open a sentence.
_UNIT_END = re.compile(r"\n|(?<=[.!?])[\"'\u201d\u2019)\]]*[ \t]+(?=[\"'\u201c\u2018(\[]*[A-Z0-9\u00c0-\u00de])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|mr|mrs|ms|dr|prof|st|vs|cf|approx|no|fig|p|pp|vol|ed|inc|ltd)|\b[A-Z])\.$", re.IGNORECASE
)

Span = tuple[int, int]


class Unit(NamedTuple):
    """What is kept together. ``cut`` names what it is a piece of, when that did not fit."""

    start: int
    end: int
    cut: str = ""


def chunk(document: Document, size: int = 512, overlap: int = 50, ruler: Ruler | None = None) -> list[Passage]:
    """The document's passages, numbered from 0. A passage is at most ``size`` long; inside a section the next one repeats up to
    ``overlap`` of it, from a sentence's start where one fits, else from a word's. ``ruler`` measures; by default characters."""
    text = document.text
    ruler = ruler or Characters()
    ruler.take(text)
    pieces: list[tuple[str, Unit]] = []
    for heading, section in _sections(document):
        units = list(_units(text, section, size, ruler, document.media_type not in _PLAIN))
        pieces += [(heading, span) for span in _packed(text, units, size, overlap, ruler)]
    if not pieces:  # nothing but headings: they are the text
        units = list(_cut(text, Unit(*_trimmed(text, (0, len(text)))), size, ruler))
        pieces = [("", span) for span in _packed(text, units, size, overlap, ruler)]
    breaks = [found.start() for found in re.finditer("\f", text)]
    return [
        Passage(
            id=f"{document.id}.{number}",
            document_id=document.id,
            corpus=document.corpus,
            number=number,
            text=text[span.start : span.end],
            start=span.start,
            end=span.end,
            heading=heading,
            source=document.source,
            page=bisect_right(breaks, span.start) + 1 if breaks else None,
            cut=span.cut,
        )
        for number, (heading, span) in enumerate(pieces)
    ]


def _sections(document: Document) -> Iterator[tuple[str, Span]]:
    """Heading path and span of each section that has a body. A ``#`` inside a code fence is a comment, no heading."""
    path: list[tuple[int, str]] = [(0, document.title)] if document.title else []
    if document.media_type in _PLAIN:
        yield document.title, (0, len(document.text))
        return
    start = place = 0
    fence = ""
    for line in document.text.splitlines(keepends=True):
        mark = _FENCE.match(line) if "`" in line or "~" in line else None
        if mark and (not fence or mark.group(1).startswith(fence)):
            fence = "" if fence else mark.group(1)[:3]
        found = _HEADING.fullmatch(line.rstrip("\n")) if line.startswith("#") and not fence else None
        if found:
            yield _said(path), (start, place)
            level = len(found.group(1))
            path = [step for step in path if step[0] < level]
            path.append((level, _heading(found.group(2))))
            start = place + len(line)
        place += len(line)
    yield _said(path), (start, place)


def _heading(said: str) -> str:
    """A heading without the hashes that may close it."""
    bare = said.rstrip("#")
    return bare.rstrip() if bare.endswith((" ", "\t")) else said


def _said(path: list[tuple[int, str]]) -> str:
    """The path as one line; a title that is also the first heading is said once."""
    names = [name for number, (_, name) in enumerate(path) if number == 0 or name != path[number - 1][1]]
    return " > ".join(names)


def _units(text: str, section: Span, size: int, ruler: Ruler, markdown: bool) -> Iterator[Unit]:
    """The section's sentences, lines and code blocks, in order, without the white space between them."""
    start, end = section
    if markdown and text.find("```", start, end) + text.find("~~~", start, end) > -2:
        for block in _FENCED.finditer(text[start:end]):
            yield from _sentences(text, (start, section[0] + block.start()), size, ruler)
            yield from _code(text, (section[0] + block.start(), section[0] + block.end()), size, ruler)
            start = section[0] + block.end()
    yield from _sentences(text, (start, end), size, ruler)


def _sentences(text: str, part: Span, size: int, ruler: Ruler) -> Iterator[Unit]:
    start, end = part
    for found in _UNIT_END.finditer(text, start, end):
        if found.group() != "\n" and _ABBREVIATION.search(text, max(start, found.start() - 8), found.start()):
            continue
        yield from _cut(text, Unit(*_trimmed(text, (start, found.end()))), size, ruler)
        start = found.end()
    yield from _cut(text, Unit(*_trimmed(text, (start, end))), size, ruler)


def _code(text: str, block: Span, size: int, ruler: Ruler) -> Iterator[Unit]:
    """A code block as one unit, or its lines when it is longer than a passage."""
    start, end = _trimmed(text, block)
    if ruler.length(start, end) <= size:
        yield Unit(start, end)
        return
    place = start
    for line in text[start:end].splitlines(keepends=True):
        stop = place + len(line)
        yield from _cut(text, Unit(place, place + len(line.rstrip()), "code"), size, ruler)
        place = stop


def _trimmed(text: str, span: Span) -> Span:
    piece = text[span[0] : span[1]]
    start = span[0] + len(piece) - len(piece.lstrip())
    return start, max(start, span[0] + len(piece.rstrip()))


def _cut(text: str, unit: Unit, size: int, ruler: Ruler) -> Iterator[Unit]:
    """The unit, or pieces of it at white space when it is longer than a passage."""
    start, end, cut = unit
    if ruler.length(start, end) > size and not cut:
        cut = "table_row" if text.startswith("|", start) else "sentence"
    while ruler.length(start, end) > size:
        furthest = ruler.reach(start, size)
        half = start + (furthest - start) // 2
        space = max(text.rfind(" ", half, furthest + 1), text.rfind("\t", half, furthest + 1))
        stop = space if space > start else max(furthest, start + 1)
        yield Unit(*_trimmed(text, (start, stop)), cut)
        start = _trimmed(text, (stop, end))[0]
    if end > start:
        yield Unit(start, end, cut)


def _packed(text: str, units: list[Unit], size: int, overlap: int, ruler: Ruler) -> Iterator[Unit]:
    """As many whole units as fit, one span after another, each beginning with what it repeats of the one before."""
    first = 0
    begin = units[0].start if units else 0
    for number, unit in enumerate(units):
        if number > first and ruler.length(begin, unit.end) > size:
            stop = units[number - 1].end
            yield Unit(begin, stop, _cuts(units[first:number]))
            begin = _repeat_from(text, units[first:number], (begin, stop), overlap, unit, size, ruler)
            first = number
    if units:
        yield Unit(begin, units[-1].end, _cuts(units[first:]))


def _cuts(units: list[Unit]) -> str:
    return ",".join(sorted({unit.cut for unit in units if unit.cut}))


def _repeat_from(text: str, units: list[Unit], done: Span, overlap: int, following: Unit, size: int, ruler: Ruler) -> int:
    """Where the span after ``done`` begins: inside its last ``overlap``, and so that the unit that follows still fits;
    at that unit itself when nothing can be repeated."""
    if overlap == 0:
        return following.start
    low = max(done[0] + 1, ruler.back(done[1], overlap), ruler.back(following.end, size))
    if low >= done[1]:
        return following.start
    sentences = [unit.start for unit in units if unit.start >= low]
    if sentences:
        return sentences[0]
    for place in range(low, done[1]):
        if text[place - 1].isspace() and not text[place].isspace():
            return place
    return following.start
