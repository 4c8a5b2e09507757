"""Comma-separated values (or semicolons, tabs, bars): each row a document, the first row the column names."""

import csv
import io

from data_jobs.extract.encoding import decode
from data_jobs.extract.part import Part, Unreadable
from data_jobs.extract.record import as_part


def extract(data: bytes) -> list[Part]:
    """One document a row, named by its row number (the header is row 1). Rows without any value are skipped."""
    text = decode(data)
    csv.field_size_limit(1 << 30)
    try:
        dialect: type[csv.Dialect] = csv.Sniffer().sniff(text[:16_384], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), dialect, strict=True))
    except csv.Error as error:
        raise Unreadable(f"the table cannot be read ({error}); export it again as CSV") from None
    if not rows:
        return []
    header = [name.strip() or f"column {number}" for number, name in enumerate(rows[0], 1)]
    parts = []
    for number, row in enumerate(rows[1:], 2):
        if any(value.strip() for value in row):
            names = header + [f"column {extra}" for extra in range(len(header) + 1, len(row) + 1)]
            parts.append(as_part(dict(zip(names, row, strict=False)), f"row {number}"))
    return parts
