"""Whatever the bytes: parts that can be stored, or Unreadable, and nothing else."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.domain.documents import Document
from data_jobs.extract import arrow, csv, jira_xml, jsonl, mail, parquet
from data_jobs.extract import json as json_format
from data_jobs.extract.part import Part, Unreadable

TABLES = [csv.extract, arrow.extract, parquet.extract]
EXTRACTORS = [*TABLES, json_format.extract, jsonl.extract, mail.extract, mail.extract_mbox, jira_xml.extract]
BYTES = st.binary(max_size=400) | st.text(alphabet=" \n\r\t,;\"'{}[]:|=+-@\x00äaA1<>&/\\?_*!#hFrom", max_size=300).map(str.encode)
SETTINGS = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
KEYS = st.sampled_from(
    ["key", "fields", "issues", "summary", "description", "comment", "comments", "body", "author", "type", "content", "attrs", "marks",
     "title", "number", "id", "messages", "role", "from", "value", "data", "text", "instruction", "output", "labels", "deleted",
     "issue", "user", "links", "issuelinks", "parent", "tool_calls", "startAt", "features", "splits", "level", "timestamp"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
LEAVES |= st.sampled_from(
    ["AB-1", "doc", "paragraph", "heading", "bulletList", "listItem", "table", "tableRow", "text", "date", "user"]
)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25)


def stored(parts: list[Part]) -> None:
    names = [part.name for part in parts if part.name]
    assert len(names) == len(set(names))
    for part in parts:
        json.dumps(asdict(part), allow_nan=False).encode()
        made = Document(
            id="d", corpus="c", source=part.name, media_type="x", title=part.title, text=part.text, digest="", meta=part.meta
        )
        assert Document.model_validate_json(made.model_dump_json()).text == part.text


def tried(extract: Callable[[bytes], list[Part]], data: bytes) -> None:
    with contextlib.suppress(Unreadable):
        stored(extract(data))


@pytest.mark.parametrize("extract", EXTRACTORS, ids=lambda one: f"{one.__module__.rpartition('.')[2]}.{one.__name__}")
@SETTINGS
@given(data=BYTES)
def test_any_bytes_give_parts_or_one_sentence(extract: Any, data: bytes) -> None:
    tried(extract, data)


@settings(SETTINGS, max_examples=400)
@given(value=TREES)
def test_any_json_gives_parts_that_can_be_stored(value: Any) -> None:
    tried(json_format.extract, json.dumps(value).encode())


@settings(SETTINGS, max_examples=200)
@given(fields=st.dictionaries(KEYS, TREES, max_size=6), description=TREES, body=TREES)
def test_any_issue_is_one_document(fields: dict[str, Any], description: Any, body: Any) -> None:
    comments = [{"body": {"type": "doc", "content": body}}]
    fields |= {"description": {"type": "doc", "content": description}, "comment": {"comments": comments}}
    parts = json_format.extract(json.dumps({"issues": [{"key": "AB-1", "fields": fields}]}).encode())
    assert [part.name for part in parts] == ["AB-1"]
    stored(parts)


HEADERS = st.sampled_from(
    [b"From: ", b"Subject: ", b"Date: ", b"Content-Type: ", b"Content-Transfer-Encoding: ", b"Content-Disposition: ", b"\n\n", b"--b\n",
     b"multipart/mixed; boundary=b", b"multipart/alternative; boundary=b", b"message/rfc822", b"text/html", b"text/plain; charset=",
     b"attachment; filename=a.csv", b"attachment; filename*=utf-8''%zz", b"base64", b"quoted-printable", b"=?utf-8?b?w7w?=", b"=?x?q?",
     b"From a@b Mon Jan 1 00:00:00 2024\n", b"\n", b"--b--\n", b"utf-16", b"idna", b"rot13", b"Mon, 99 Jan 2024 25:00:00 +9999"]
)  # fmt: skip


@settings(SETTINGS, max_examples=300)
@given(pieces=st.lists(HEADERS | st.binary(max_size=12), max_size=25), mailbox=st.booleans())
def test_any_mail_gives_parts_or_one_sentence(pieces: list[bytes], mailbox: bool) -> None:
    data = b"".join(pieces)
    tried(
        mail.extract_mbox if mailbox else mail.extract, b"From a@b Mon Jan 1 00:00:00 2024\nTo: x\n" + data if mailbox else data
    )


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
@settings(SETTINGS, max_examples=150)
@given(where=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes_in_a_table_give_parts_or_one_sentence(kind: str, where: list[tuple[float, int]]) -> None:
    table = pa.table({"text": [f"row {n}" for n in range(50)], "n": list(range(50)), "l": [[{"a": n}] for n in range(50)]})
    sink = pa.BufferOutputStream()
    if kind == "parquet":
        pq.write_table(table, sink, row_group_size=20)
    else:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=20)
    data = bytearray(sink.getvalue().to_pybytes())
    for place, value in where:
        data[int(place * len(data))] = value
    tried(parquet.extract if kind == "parquet" else arrow.extract, bytes(data))
