"""Rows and passages as files that other tools read."""

import csv
import json
import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TextIO

from cluster.domain.base import Frozen, new_id
from cluster.errors import InvalidInput

_ROWS_AT_A_TIME = 10_000
_NUMBER = re.compile(r"[+-]?(?:\d[\d.,' ]*|\.\d+)(?:[eE][+-]?\d+)?\s?[%€$£]?")
# OWASP's list for "CSV injection": what makes a spreadsheet take a cell for a formula, the full-width forms too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def export_rows(rows: Iterator[Frozen], form: Literal["jsonl", "csv", "parquet"], file: Path | None) -> int:
    """Writes the rows (all of one type) to ``file``, whole or not at all; JSON lines and CSV to stdout without one. Returns how many.

    What is no text or number in a row is written as JSON in CSV and Parquet. In CSV, cells that a spreadsheet would run are made safe.
    """
    if file is None:
        if form == "parquet":
            raise InvalidInput("Parquet cannot be written to a terminal; give a file: --output passages.parquet")
        return _text(rows, form, sys.stdout)
    beside = file.with_name(new_id(f".{file.name}"))
    try:
        if form == "parquet":
            written = _parquet(rows, beside)
        else:
            with beside.open("w", encoding="utf-8", newline="") as stream:
                written = _text(rows, form, stream)
        beside.replace(file)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be written ({error.strerror or error}); give another --output.") from None
    finally:
        beside.unlink(missing_ok=True)
    return written


def _text(rows: Iterator[Frozen], form: str, stream: TextIO) -> int:
    count = 0
    writer: Any = None
    for row in rows:
        count += 1
        if form == "jsonl":
            stream.write(row.model_dump_json() + "\n")
            continue
        flat = _flat(row)
        if writer is None:
            writer = csv.DictWriter(stream, list(flat))
            writer.writeheader()
        writer.writerow({key: safe_cell(value) if isinstance(value, str) else value for key, value in flat.items()})
    return count


def _parquet(rows: Iterator[Frozen], file: Path) -> int:
    import pyarrow
    import pyarrow.parquet as parquet

    count = 0
    writer: Any = None
    try:
        while batch := [_flat(row) for row in islice(rows, _ROWS_AT_A_TIME)]:
            table = pyarrow.Table.from_pylist(batch, schema=None if writer is None else writer.schema)
            if writer is None:
                fields = [
                    pyarrow.field(one.name, pyarrow.string()) if one.type == pyarrow.null() else one for one in table.schema
                ]
                table = table.cast(pyarrow.schema(fields))
                writer = parquet.ParquetWriter(file, table.schema, compression="zstd")
            writer.write_table(table)
            count += len(batch)
    finally:
        if writer is not None:
            writer.close()
    return count


def _flat(row: Frozen) -> dict[str, Any]:
    # Some fields leave themselves out where they are not used; a table has the same columns in every row.
    values = dict.fromkeys(type(row).model_fields) | row.model_dump(mode="json")
    simple = (str, int, float, bool, type(None))
    return {key: value if isinstance(value, simple) else json.dumps(value, ensure_ascii=False) for key, value in values.items()}


def safe_cell(text: str) -> str:
    """A cell for a table that a spreadsheet may open: an apostrophe stands before what would run as a formula.

    After OWASP's advice on CSV injection; numbers such as -5 stay as they are. Quoting separators is the CSV writer's work.
    """
    runs = text.lstrip(" ").startswith(_FORMULA) and not _NUMBER.fullmatch(text.strip(" "))
    return f"'{text}" if runs else text
