"""Chunking: a document into passages that follow its headings and keep sentences whole.

Sizes are characters. ``passage.text == document.text[passage.start:passage.end]``, always. Heading lines are not part of a passage's
text; the path of headings above it is its ``heading``.
"""

import re
from collections.abc import Iterator

from cluster.domain.documents import Document, Passage

_WITH_HEADINGS = {"text/markdown", "text/html", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"}
_HEADING = re.compile(r"(#{1,6})[ \t]+(.+?)[ \t]*#*[ \t]*")
_FENCE = re.compile(r"[ \t]{0,3}(```+|~~~+)")
# A unit ends at a line's end, or after . ! ? (and closing marks) before white space and something that can open a sentence.
_UNIT_END = re.compile(r"\n|(?<=[.!?])[\"'\u201d\u2019)\]]*[ \t]+(?=[\"'\u201c\u2018(\[]*[A-Z0-9\u00c0-\u00de])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|mr|mrs|ms|dr|prof|st|vs|cf|approx|no|fig|p|pp|vol|ed|inc|ltd)|\b[A-Z])\.$", re.IGNORECASE
)

Span = tuple[int, int]


def chunk(document: Document, size: int = 512, overlap: int = 50) -> list[Passage]:
    """The document's passages, numbered from 0. A passage is at most ``size`` characters; inside a section the next one repeats up
    to ``overlap`` characters of it, from a sentence's start where one fits, else from a word's."""
    spans: list[tuple[str, Span]] = []
    for heading, section in _sections(document):
        spans += [(heading, span) for span in _packed(document.text, _units(document.text, section, size), size, overlap)]
    if not spans:  # nothing but headings: they are the text
        whole = _trimmed(document.text, (0, len(document.text)))
        spans = [("", span) for span in _packed(document.text, _units(document.text, whole, size), size, overlap)]
    return [
        Passage(
            id=f"{document.id}.{number}",
            document_id=document.id,
            corpus=document.corpus,
            number=number,
            text=document.text[start:end],
            start=start,
            end=end,
            heading=heading,
            source=document.source,
        )
        for number, (heading, (start, end)) in enumerate(spans)
    ]


def _sections(document: Document) -> Iterator[tuple[str, Span]]:
    """Heading path and span of each section that has a body. A ``#`` inside a code fence is a comment, no heading."""
    path: list[tuple[int, str]] = [(0, document.title)] if document.title else []
    if document.media_type not in _WITH_HEADINGS:
        yield document.title, (0, len(document.text))
        return
    start = place = 0
    fence = ""
    for line in document.text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if mark and (not fence or mark.group(1).startswith(fence)):
            fence = "" if fence else mark.group(1)[:3]
        found = None if fence else _HEADING.fullmatch(line.rstrip("\n"))
        if found:
            yield _said(path), (start, place)
            level = len(found.group(1))
            path = [step for step in path if step[0] < level]
            path.append((level, found.group(2)))
            start = place + len(line)
        place += len(line)
    yield _said(path), (start, place)


def _said(path: list[tuple[int, str]]) -> str:
    """The path as one line; a title that is also the first heading is said once."""
    names = [name for number, (_, name) in enumerate(path) if number == 0 or name != path[number - 1][1]]
    return " > ".join(names)


def _units(text: str, section: Span, size: int) -> list[Span]:
    """The section's sentences and lines, in order, without the white space between them; longer ones are cut at a space."""
    start, end = section
    units: list[Span] = []
    for found in _UNIT_END.finditer(text, start, end):
        if found.group() != "\n" and _ABBREVIATION.search(text, max(start, found.start() - 8), found.start()):
            continue
        units += _cut(text, _trimmed(text, (start, found.end())), size)
        start = found.end()
    return [*units, *_cut(text, _trimmed(text, (start, end)), size)]


def _trimmed(text: str, span: Span) -> Span:
    piece = text[span[0] : span[1]]
    start = span[0] + len(piece) - len(piece.lstrip())
    return start, max(start, span[0] + len(piece.rstrip()))


def _cut(text: str, unit: Span, size: int) -> Iterator[Span]:
    start, end = unit
    while end - start > size:
        space = max(text.rfind(" ", start + size // 2, start + size + 1), text.rfind("\t", start + size // 2, start + size + 1))
        stop = space if space > start else start + size
        yield _trimmed(text, (start, stop))
        start = _trimmed(text, (stop, end))[0]
    if end > start:
        yield start, end


def _packed(text: str, units: list[Span], size: int, overlap: int) -> Iterator[Span]:
    """As many whole units as fit, one span after another, each beginning with what it repeats of the one before."""
    first = 0
    begin = units[0][0] if units else 0
    for number, (_, end) in enumerate(units):
        if end - begin > size and number > first:
            stop = units[number - 1][1]
            yield begin, stop
            begin = _repeat_from(text, units[first:number], (begin, stop), overlap, units[number][0], end - size)
            first = number
    if units:
        yield begin, units[-1][1]


def _repeat_from(text: str, units: list[Span], done: Span, overlap: int, following: int, earliest: int) -> int:
    """Where the span after ``done`` begins: inside its last ``overlap`` characters, not before ``earliest``, so that the unit at
    ``following`` still fits; ``following`` itself when nothing can be repeated."""
    low = max(done[0] + 1, done[1] - overlap, earliest)
    if overlap == 0 or low >= done[1]:
        return following
    sentences = [start for start, _ in units if start >= low]
    if sentences:
        return sentences[0]
    for place in range(low, done[1]):
        if text[place - 1].isspace() and not text[place].isspace():
            return place
    return following
