"""From the places of words on PDF pages to text in reading order: columns, broken lines, running headers. Knows no PDF library."""

import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

Box = tuple[float, float, float, float]
"""Left, bottom, right, top, in points; y grows upwards."""

_ENDED = re.compile(r"[.!?:;][\"')\]]*$")
_BULLET = re.compile(r"^(?:[-*\u2022\u25cf]|\d{1,3}[.)])\s")
# pdfium writes U+FFFE (older versions U+0002) where a hyphen only served the line break, often in place of that break.
_LINE_END = re.compile("([\ufffe\x02]\n?|\n)")
_NARROW, _FULL_LINE, _VERY_FULL = 40, 0.7, 0.85

_GUTTER, _FEW_ACROSS = 8, 0.2
"""A gutter is so many points wide, and so few of a column's lines (titles, wide figures) cross it."""
_ROWS, _COLUMN_SHARE, _FILLED = 4, 0.2, 0.6
"""A column has at least so many lines and so much of the page's width, and its middle line fills so much of it: cells of a table
seldom do, and a table is read row by row."""

_EDGE_LINES, _REPEATS, _LONGEST = 2, 3, 200
_PAGE_NUMBER = re.compile(r"\W*(?:page|seite|p\.)?\s*(\d{1,4}|[ivxlc]{1,7})(?:\s*(?:of|von|/|\|)\s*\d{1,4})?\W*", re.IGNORECASE)
_NUMBER_AT_EDGE = re.compile(r"^(\d{1,4})\b|\b(\d{1,4})$")


def in_columns(boxes: Sequence[Box], width: float) -> list[Box]:
    """The regions of a page in the order of reading, if it is set in columns; nothing if it is not, or not clearly so."""
    gutters = _gutters(boxes)
    if not gutters:
        return []
    left, right = min(box[0] for box in boxes), max(box[2] for box in boxes)
    edges = [left, *((start + end) / 2 for start, end in gutters), right]
    columns = list(pairwise(edges))
    inside: list[list[Box]] = [[] for _ in columns]
    across: list[Box] = []
    for box in boxes:
        home = next((number for number, (low, high) in enumerate(columns) if low <= box[0] and box[2] <= high), None)
        (across if home is None else inside[home]).append(box)
    for (low, high), lines in zip(columns, inside, strict=True):
        wide = high - low
        if len(lines) < _ROWS or wide < _COLUMN_SHARE * width or median(box[2] - box[0] for box in lines) < _FILLED * wide:
            return []
    regions: list[Box] = []
    top = max(box[3] for box in boxes) + 1
    for box in [*sorted(across, key=lambda one: -one[3]), None]:
        bottom = min(one[1] for one in boxes) - 1 if box is None else box[3]
        if top - bottom > 1:
            regions += [(low - 1, bottom, high + 1, top) for low, high in columns if _any_in(boxes, low, bottom, high, top)]
        if box is not None:
            regions.append((left - 1, min(box[1], top), right + 1, max(min(box[3], top), box[1])))
            top = min(top, box[1])
    return regions


def _gutters(boxes: Sequence[Box]) -> list[tuple[float, float]]:
    """Stretches of x that nearly no line covers, between stretches that many do."""
    if len(boxes) < 2 * _ROWS:
        return []
    low, high = int(min(box[0] for box in boxes)), int(max(box[2] for box in boxes)) + 1
    if high - low > 20_000:
        return []
    steps = [0] * (high - low + 2)
    for box in boxes:
        steps[int(box[0]) - low] += 1
        steps[int(box[2]) - low + 1] -= 1
    covered, count = [], 0
    for step in steps:
        count += step
        covered.append(count)
    few = _FEW_ACROSS * max(covered)
    found, start = [], None
    for place, count in enumerate(covered):
        if count <= few and start is None:
            start = place
        elif count > few and start is not None:
            if place - start >= _GUTTER and start > 0:
                found.append((float(low + start), float(low + place)))
            start = None
    return found


def _any_in(boxes: Sequence[Box], left: float, bottom: float, right: float, top: float) -> bool:
    return any(left - 2 <= box[0] and box[2] <= right + 2 and bottom <= (box[1] + box[3]) / 2 <= top for box in boxes)


def flow(page: str) -> str:
    """Joins a line to the one before it when that one was full and unfinished, or ended in a hyphen the layout made."""
    pieces = _LINE_END.split(page)
    lines = [line.strip() for line in pieces[::2]]
    width = max(map(len, lines), default=0)
    out = lines[:1]
    for before, end, line in zip(lines, pieces[1::2], lines[1:], strict=False):
        if end != "\n":
            out[-1] += line
        elif _continues(before, line, width):
            out[-1] += " " + line
        else:
            out.append(line)
    return "\n".join(out)


def _continues(before: str, line: str, width: int) -> bool:
    """Whether ``line`` carries on the paragraph of the line before it, on a page whose longest line has ``width`` characters."""
    if not before or not line or width < _NARROW or len(before) < _FULL_LINE * width or _BULLET.match(line):
        return False
    return not _ENDED.search(before) or line[0].islower() or len(before) >= _VERY_FULL * width


def without_furniture(pages: Sequence[str]) -> list[str]:
    """The pages without running headers and footers: lines at a page's edge that three pages have alike (a number in them may count
    the pages), and bare page numbers. A page that would have nothing left stays whole."""
    split = [page.split("\n") for page in pages]
    edges = [_edges(lines) for lines in split]
    pages_of: dict[str, set[int]] = defaultdict(set)
    for number, places in enumerate(edges):
        for place in places:
            for key in _keys(split[number][place].strip(), number):
                pages_of[key].add(number)
    kept = []
    for number, (lines, places) in enumerate(zip(split, edges, strict=True)):
        gone = {place for place in places if any(_runs(key, pages_of, number) for key in _keys(lines[place].strip(), number))}
        left = [line for place, line in enumerate(lines) if place not in gone]
        kept.append("\n".join(left) if any(map(str.strip, left)) else pages[number])
    return kept


def _runs(key: str, pages_of: dict[str, set[int]], number: int) -> bool:
    """Whether a line with that key runs through the pages; the number of the page itself does so in a short document too."""
    return len(pages_of[key]) >= _REPEATS or key == "page 1"


def _edges(lines: Sequence[str]) -> set[int]:
    filled = [place for place, line in enumerate(lines) if line.strip()]
    return {*filled[:_EDGE_LINES], *filled[-_EDGE_LINES:]}


def _keys(line: str, number: int) -> list[str]:
    """Under what names a line may be found again on other pages. ``page N``: a bare page number, N more than the page's place."""
    if len(line) > _LONGEST:
        return []
    bare = _PAGE_NUMBER.fullmatch(line)
    if bare:
        value = _value(bare.group(1))
        return [f"page {value - number}"] if value else []
    keys = [line]
    found = _NUMBER_AT_EDGE.search(line)
    rest = _NUMBER_AT_EDGE.sub("", line).split()
    if found and len(rest) > 1:
        keys.append(f"{int(found.group()) - number}: {' '.join(rest)}")
    return keys


def _value(number: str) -> int:
    if number.isdigit():
        return int(number)
    digits = [{"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}[sign] for sign in number.lower()]
    return sum(-one if one < max(digits[place:]) else one for place, one in enumerate(digits))
