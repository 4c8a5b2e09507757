"""Comma-separated values (or semicolons, tabs, bars): each row a document, the first row the column names.

Cells stay text: what a spreadsheet would run as a formula is kept as it is here, and is made harmless by ``cluster.export`` where
it is written into a table again.
"""

import csv
import re
from collections.abc import Iterator

from data_jobs.extract.lines import lines_of
from data_jobs.extract.part import Options, Part, Unreadable
from data_jobs.extract.record import as_part, finished

_MARKS = ",;\t|"
_LONGEST_CELL = 16 << 20
_SAMPLE_LINES = 200
_SEP = re.compile(r"sep=([,;\t|:^~])\s*", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?[\d.,:/-]*\d[\d.,:/ -]*(?:[eE][+-]?\d+)?%?")


class _Broken(Exception):
    """A row that cannot be read, as ``_rows`` found it."""


def extract(data: bytes, options: Options = Options()) -> list[Part]:
    """One document a row, named by its row number: a cell of many lines is one row, and the header is row 1.

    A first row with a number or date in every cell is no header: it is a row, and the columns are called "column 1" and so on. Rows
    without any value are skipped. A broken row (a quote never closed, NUL bytes) is set aside; without a good row, so is the file.
    """
    lines = [piece for line in lines_of(data) for piece in _split(line)]
    mark, skipped = _separator(lines)
    parts: list[Part] = []
    header: list[str] | None = None
    for number, row in enumerate(_rows(lines[skipped:], mark), 1):
        name = f"row {number}"
        problem = str(row) if isinstance(row, _Broken) else "it has NUL bytes" if any("\x00" in cell for cell in row) else ""
        if problem and header is None:
            raise Unreadable(f"the table's header cannot be read ({problem}); export it again as CSV in UTF-8")
        if isinstance(row, _Broken) or problem:
            problem = f"the row cannot be read ({problem}); correct it or export the table again"
            parts.append(Part(text="", name=name, problem=problem))
            continue
        if not any(cell.strip() for cell in row):
            continue
        if header is None:
            numbers = all(_NUMBER.fullmatch(cell.strip()) for cell in row)
            header = _header([""] * len(row) if numbers else row)
            if not numbers:
                continue
        names = header + [f"column {extra}" for extra in range(len(header) + 1, len(row) + 1)]
        parts.append(as_part(dict(zip(names, row, strict=False)), name, options))
    if parts and all(part.problem and part.reason == "corrupt" for part in parts):
        raise Unreadable(f"the table cannot be read below its header ({parts[0].name}: {parts[0].problem})")
    return finished(parts)


def _split(line: str) -> list[str]:
    """Lines of an old Mac's file, which end in a carriage return alone."""
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", line) if "\r" in line.rstrip("\r\n") else [line]


def _separator(lines: list[str]) -> tuple[str, int]:
    """What separates the cells, and how many lines only say so: the mark by which most rows are as wide as the first."""
    said = _SEP.fullmatch(lines[0]) if lines else None
    if said:
        return said[1], 1
    best, mark = (0.0, 0), ","
    for candidate in _MARKS:
        try:
            widths = [len(row) for row in csv.reader(lines[:_SAMPLE_LINES], delimiter=candidate, skipinitialspace=True) if row]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            like = sum(width == widths[0] for width in widths) / len(widths)
            best, mark = max((best, mark), ((like, widths[0]), candidate))
    return mark, 0


def _rows(lines: list[str], mark: str) -> Iterator[list[str] | _Broken]:
    """Every row, or why it cannot be read. After a broken row it goes on with the line below the one in which that row began."""
    csv.field_size_limit(_LONGEST_CELL)
    at = 0
    while at < len(lines):
        reader = csv.reader(map(lines.__getitem__, range(at, len(lines))), delimiter=mark, strict=True, skipinitialspace=True)
        done = 0
        try:
            for row in reader:
                yield row
                done = reader.line_num
            return
        except csv.Error as error:
            at += done
            # Text with tabs has no quoting (IANA, text/tab-separated-values), so a quote may be just that.
            cells = lines[at].rstrip("\r\n").split(mark)
            yield [cell.strip() for cell in cells] if mark == "\t" and len(cells) > 1 else _Broken(str(error))
            at += 1


def _header(row: list[str]) -> list[str]:
    """Names for the columns: those without one get their number, and the second of two alike is told apart."""
    names: list[str] = []
    for number, cell in enumerate(row, 1):
        name = " ".join(cell.split()) or f"column {number}"
        times = 2
        unique = name
        while unique in names:
            unique = f"{name} ({times})"
            times += 1
        names.append(unique)
    return names
