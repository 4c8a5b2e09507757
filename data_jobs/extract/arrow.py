"""Arrow files: streams, as Hugging Face datasets lie on disk, and the file format. Each row a document.

A dataset on disk is a directory of ``*.arrow`` with ``state.json`` and ``dataset_info.json`` beside them; those two say nothing to a
reader but the data set's description.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from data_jobs.extract.part import Options, Part, Unreadable
from data_jobs.extract.record import finished, plain
from data_jobs.extract.shapes import parts_of

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 1_000
_FILE = b"ARROW1"


def extract(data: bytes, options: Options = Options()) -> list[Part]:
    """One document a row, named by its number from 1. Columns of bytes are left out and named in ``meta["left_out"]``.

    Rows before a place where the file is broken are kept, and the rest is set aside.
    """
    import pyarrow as pa

    source = pa.BufferReader(data)
    try:
        if data.startswith(_FILE):
            reader = pa.ipc.open_file(source)
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            reader = pa.ipc.open_stream(source)
            batches = iter(reader)
        schema = reader.schema
    except MemoryError:  # Arrow's own is one of its other errors, too
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Unreadable(f"the Arrow file cannot be opened ({_first_line(error)}); write it again") from None
    return finished(rows_of(batches, schema, options))


def rows_of(batches: "Iterator[pa.RecordBatch]", schema: "pa.Schema", options: Options, first: int = 1) -> Iterator[Part]:
    """The documents of the batches' rows, numbered from ``first``; where the batches break off, one problem for the rest."""
    import pyarrow as pa

    broken = (pa.ArrowException, OSError, ValueError, OverflowError, NotImplementedError)
    try:
        left_out = [path for field in schema for path in _bytes_in(field.name, field.type)]
    except UnicodeDecodeError:
        raise Unreadable("the name of a column is not UTF-8; rename the column and write the file again") from None
    labels = _labels(schema.metadata or {})
    number = first
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                return
            batch.validate(full=True)
            batch = _readable(batch)
        except MemoryError:
            raise
        except broken as error:
            problem = f"the rows from here on cannot be read ({_first_line(error)}); write the file again"
            yield Part(text="", name=f"row {number}", problem=problem)
            return
        for start in range(0, batch.num_rows, _ROWS):
            some = batch.slice(start, _ROWS)
            try:
                rows: list[Any] = some.to_pylist()
            except MemoryError:
                raise
            except broken:
                rows = [_row(some.slice(at, 1), broken) for at in range(some.num_rows)]
            for row in rows:
                name = f"row {number}"
                number += 1
                if isinstance(row, str):
                    problem = f"the row cannot be read ({row}); correct it and write the file again"
                    yield Part(text="", name=name, problem=problem)
                else:
                    yield from _parts(row, name, options, labels, left_out)


def of_dataset(value: dict[str, Any]) -> list[Part] | None:
    """The documents of a JSON file that belongs to a Hugging Face dataset on disk; None for any other JSON."""
    if {"_data_files", "_fingerprint"} <= value.keys() or (value.keys() == {"splits"} and isinstance(value["splits"], list)):
        return []
    if not isinstance(value.get("features"), dict) or not {"citation", "homepage", "license"} <= value.keys():
        return None
    told, name = value.get("description"), value.get("dataset_name")
    return [Part(text=told, title=name if isinstance(name, str) else "")] if isinstance(told, str) and told.strip() else []


def _parts(row: dict[str, Any], name: str, options: Options, labels: dict[str, list[str]], left_out: list[str]) -> list[Part]:
    record = plain(row)
    for column, names in labels.items():
        label = record.get(column)
        if isinstance(label, int) and 0 <= label < len(names):
            record[column] = names[label]
    parts = parts_of(record, name, options)
    if left_out:
        for part in parts:
            part.meta["left_out"] = left_out
    return parts


def _row(one: "pa.RecordBatch", broken: tuple[type[Exception], ...]) -> dict[str, Any] | str:
    try:
        found: dict[str, Any] = one.to_pylist()[0]
    except broken as error:
        return _first_line(error)
    return found


def _readable(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """The batch without columns of bytes, with times as Python can hold them, and no two columns of one name."""
    import pyarrow as pa

    columns: dict[str, pa.Array] = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if _is_bytes(field.type):
            continue
        name = field.name if field.name not in columns else f"{field.name} ({len(columns) + 1})"
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            column = column.cast(pa.timestamp("us", field.type.tz), safe=False)
        columns[name] = column
    return pa.RecordBatch.from_pydict(columns) if columns else batch.select([])


def _bytes_in(path: str, kind: "pa.DataType") -> list[str]:
    import pyarrow as pa

    if _is_bytes(kind):
        return [path]
    if pa.types.is_struct(kind):
        return [inner for field in kind for inner in _bytes_in(f"{path}.{field.name}", field.type)]
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return _bytes_in(path, kind.value_type) if is_list else []


def _is_bytes(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    views = pa.types.is_binary_view(kind)
    return views or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _labels(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """The names of Hugging Face's class labels, by column: the rows hold only numbers."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        named = {column: feature["names"] for column, feature in features.items() if feature.get("_type") == "ClassLabel"}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return {
        column: names for column, names in named.items() if isinstance(names, list) and all(isinstance(n, str) for n in names)
    }


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__
