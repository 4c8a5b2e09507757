"""Parquet and Arrow: rows with their numbers, values of every type, broken files, Hugging Face's datasets on disk."""

import datetime
import decimal
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_jobs.extract import arrow, parquet
from data_jobs.extract import json as json_format
from data_jobs.extract.part import Encrypted, Options, Unreadable


def written(table: pa.Table, kind: str, rows: int = 1_000) -> bytes:
    sink = pa.BufferOutputStream()
    if kind == "parquet":
        pq.write_table(table, sink, row_group_size=rows)
    else:
        with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)
    return sink.getvalue().to_pybytes()


def read(data: bytes, kind: str, options: Options = Options()) -> Any:
    return (parquet if kind == "parquet" else arrow).extract(data, options)


KINDS = pytest.mark.parametrize("kind", ["parquet", "stream", "file"])


@KINDS
def test_rows_are_documents_numbered_through_groups_and_batches(kind: str) -> None:
    table = pa.table(
        {"title": [f"t{n}" for n in range(2_500)], "text": [f"row {n}" for n in range(2_500)], "n": list(range(2_500))}
    )
    parts = read(written(table, kind, rows=700), kind)
    assert len(parts) == 2_500
    assert (parts[1_500].name, parts[1_500].text, parts[1_500].title, parts[1_500].meta) == (
        "row 1501",
        "row 1500",
        "t1500",
        {"n": 1_500},
    )


@KINDS
def test_values_of_every_type_are_said_and_bytes_left_out(kind: str) -> None:
    table = pa.table(
        {
            "image": pa.array([b"\x89PNG"], pa.binary()),
            "photo": pa.array([{"bytes": b"\x00", "path": "a.png"}]),
            "when": pa.array([1_709_193_600_123_456_789], pa.timestamp("ns", "UTC")),
            "day": [datetime.date(2024, 2, 29)],
            "price": [decimal.Decimal("9.90")],
            "tags": [["a", "b"]],
            "none": pa.array([None], pa.string()),
        }
    )
    (part,) = read(written(table, kind), kind)
    assert part.text.split("\n") == [
        'photo: {"path": "a.png"}', "when: 2024-02-29T08:00:00.123456+00:00", "day: 2024-02-29", "price: 9.90", "tags: a", "b",
    ]  # fmt: skip
    assert part.meta == {"left_out": ["image", "photo.bytes"]}


@KINDS
def test_fields_are_mapped_and_chats_told_by_their_shape(kind: str) -> None:
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    data = written(pa.table({"messages": [turns], "answer": ["A"]}), kind)
    assert read(data, kind)[0].text == "user: Q\n\nassistant: A"
    assert read(data, kind, Options(text_field="answer"))[0].text == "A"
    assert read(data, kind, Options(text_field="reply"))[0].reason == "missing_field"


@pytest.mark.parametrize("kind", ["parquet", "file"])
def test_a_truncated_file_is_unreadable(kind: str) -> None:
    data = written(pa.table({"text": ["row"] * 500}), kind)
    for end in (0, 5, len(data) // 2, len(data) - 1):
        with pytest.raises(Unreadable, match="cannot be opened"):
            read(data[:end], kind)


def test_a_truncated_stream_keeps_the_rows_before_the_cut() -> None:
    data = written(pa.table({"text": [f"row {n}" for n in range(500)]}), "stream", rows=100)
    parts = arrow.extract(data[: len(data) // 2])
    assert len(parts) % 100 == 1
    assert (parts[0].text, parts[-1].name) == ("row 0", f"row {len(parts)}")
    assert "from here on" in parts[-1].problem


def test_a_broken_row_group_does_not_cost_the_others() -> None:
    table = pa.table({"text": [f"some text of row {n} {n * 7919}" for n in range(300)]})
    data = bytearray(written(table, "parquet", rows=100))
    column = pq.ParquetFile(pa.BufferReader(bytes(data))).metadata.row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    parts = parquet.extract(bytes(data))
    assert [part.name for part in parts if part.problem] == ["row 101"]
    assert [part.text for part in parts if not part.problem] == table["text"].to_pylist()[:100] + table["text"].to_pylist()[200:]
    assert parts[-1].name == "row 300"


def test_one_value_that_python_cannot_hold_costs_its_row_alone() -> None:
    far = pa.array([0, 2**62, 1], pa.timestamp("s"))
    parts = arrow.extract(written(pa.table({"text": ["a", "b", "c"], "when": far}), "stream"))
    assert [(part.name, bool(part.problem)) for part in parts] == [("row 1", False), ("row 2", True), ("row 3", False)]


def test_an_encrypted_parquet_file_says_so() -> None:
    with pytest.raises(Encrypted, match="without encryption"):
        parquet.extract(b"PARE" + b"\x00" * 100 + b"PARE")


def test_columns_of_one_name_are_told_apart() -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["x", "x"])
    assert arrow.extract(written(table, "stream"))[0].text == "x: a\nx (2): b"


def test_a_hugging_face_dataset_on_disk_gives_its_rows_and_names_its_labels(tmp_path: Path) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["calm", "angry"])})
    made = datasets.Dataset.from_dict({"text": ["Thank you.", "Not again!"], "label": [0, 1]}, features=features)
    made.save_to_disk(tmp_path / "set")
    files = sorted((tmp_path / "set").iterdir())
    assert [file.suffix for file in files] == [".arrow", ".json", ".json"]
    parts = arrow.extract(files[0].read_bytes())
    assert [(part.text, part.meta) for part in parts] == [("Thank you.", {"label": "calm"}), ("Not again!", {"label": "angry"})]
    assert [json_format.extract(file.read_bytes()) for file in files[1:]] == [[], []]
