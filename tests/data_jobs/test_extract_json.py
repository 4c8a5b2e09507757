"""JSON and JSON lines: lists, wrappers, shapes, field mapping, and where they are broken."""

import json
from typing import Any

import pytest

from data_jobs.extract import json as json_format
from data_jobs.extract import jsonl
from data_jobs.extract.part import NotText, Options, Part, Unreadable


def read(value: Any, options: Options = Options()) -> list[Part]:
    return json_format.extract(json.dumps(value).encode(), options)


def test_an_object_is_a_document_and_a_list_is_many() -> None:
    record = {"title": "Rent", "text": "It is 900.", "year": 2024}
    assert read(record) == [Part(text="It is 900.", title="Rent", meta={"year": 2024})]
    assert [(part.name, part.text) for part in read([record, {"a": 1, "b": [True]}])] == [
        ("item 1", "It is 900."), ("item 2", "a: 1\nb: [true]"),
    ]  # fmt: skip
    assert read([]) == []


def test_a_wrapper_is_the_list_in_it_and_what_stood_around_is_kept() -> None:
    (part,) = read({"count": 1, "next": None, "data": [{"text": "one"}]})
    assert (part.name, part.text, part.meta) == ("item 1", "one", {"around": {"count": 1}})


@pytest.mark.parametrize(
    "record",
    [
        {"name": "Order", "lines": [{"n": 1}]},
        {"a": [{"n": 1}], "b": [{"n": 2}]},
        {"text": "long", "notes": [{"n": 1}]},
        {"tags": ["a"]},
    ],
)
def test_a_record_with_lists_inside_is_one_record(record: dict[str, Any]) -> None:
    assert [part.name for part in read(record)] == [""]


def test_items_that_are_no_objects_are_set_aside_one_by_one() -> None:
    assert [(part.name, bool(part.problem)) for part in read([{"text": "a"}, "b", None])] == [
        ("item 1", False), ("item 2", True), ("item 3", True),
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["text", 5, None, True])
def test_a_bare_value_is_refused(value: Any) -> None:
    with pytest.raises(Unreadable, match="neither an object nor a list"):
        read(value)


def test_broken_json_says_where() -> None:
    with pytest.raises(Unreadable, match=r"line 3, column 5 .*correct it"):
        json_format.extract(b'{\n "a": 1,\n "b"; 2\n}')


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 5_000 + b"1" + b"}" * 5_000])
def test_nesting_bombs_are_refused(data: bytes) -> None:
    with pytest.raises(Unreadable, match="nested too deep"):
        json_format.extract(data)
    assert [part.reason for part in jsonl.extract(data + b'\n{"text": "fine"}')] == ["too_deep", "corrupt"]


def test_nesting_that_the_parser_takes_is_bounded_too() -> None:
    (part,) = read({"text": "x", "deep": json.loads("[" * 300 + "]" * 300)})
    assert part.reason == "too_deep"


def test_numbers_of_thousands_of_digits_are_refused() -> None:
    with pytest.raises(Unreadable, match="cannot be read"):
        json_format.extract(b'{"n": ' + b"9" * 5_000 + b"}")
    assert jsonl.extract(b'{"n": ' + b"9" * 5_000 + b"}")[0].problem


def test_json_lines_under_the_wrong_ending_are_read() -> None:
    assert [part.name for part in json_format.extract(b'{"text": "a"}\n{"text": "b"}\n')] == ["line 1", "line 2"]


def test_the_files_beside_a_hugging_face_dataset_are_no_records() -> None:
    assert read({"_data_files": [{"filename": "a.arrow"}], "_fingerprint": "f", "_split": None}) == []
    assert read({"splits": ["train", "test"]}) == []
    info = {"citation": "", "description": "Questions about flats.", "features": {"q": {}}, "homepage": "", "license": ""}
    assert [part.text for part in read(info)] == ["Questions about flats."]


def test_shapes_are_told_in_lists_and_lines_alike() -> None:
    values = [
        {"key": "AB-1", "fields": {"summary": "S", "description": "D"}},
        {"number": 4, "title": "T", "body": "B"},
        {"messages": [{"role": "user", "content": "Q"}]},
        {"instruction": "I", "output": "O"},
        {"text": "R"},
    ]
    want = ["D", "B", "user: Q", "Instruction: I\n\nOutput: O", "R"]
    assert [part.text for part in read(values)] == want
    assert [part.name for part in read(values)] == ["AB-1", "issue 4", "item 3", "item 4", "item 5"]
    lines = "\n".join(map(json.dumps, values)).encode()
    assert [part.text for part in jsonl.extract(lines)] == want


def test_the_mapped_field_wins_over_the_shape() -> None:
    options = Options(text_field="fields.description")
    issue = {"key": "AB-1", "fields": {"description": "*D*"}}
    assert [(part.name, part.text) for part in read([issue], options)] == [("item 1", "*D*")]
    assert read([{"number": 4, "title": "T", "body": "B"}], options)[0].text == "B"
    assert read([{"text": "x"}], options)[0].reason == "missing_field"


def test_a_slice_of_lines_is_numbered_from_its_first() -> None:
    parts = jsonl.extract(b'{"text": "a"}\n{broken\n{"text": "b"}', Options(first=101))
    assert [(part.name, bool(part.problem)) for part in parts] == [("line 101", False), ("line 102", True), ("line 103", False)]
    assert "column 2" in parts[1].problem


def test_a_line_with_nul_bytes_is_set_aside_alone() -> None:
    lines = [b'{"text": "a long enough line of plain text"}'] * 5 + [b'{"text": "a\x00b"}', b'{"text": "last"}']
    parts = jsonl.extract(b"\n".join(lines))
    assert [bool(part.problem) for part in parts] == [False] * 5 + [True, False]


def test_lines_of_two_encodings_are_each_read_in_their_own() -> None:
    lines = ['{"text": "Köln – Łódź"}'.encode(), '{"text": "Münster – 5 €"}'.encode("cp1252")]
    assert [part.text for part in jsonl.extract(b"\n".join(lines))] == ["Köln – Łódź", "Münster – 5 €"]


def test_a_very_long_line_is_read_and_an_endless_one_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    long = json.dumps({"text": "x" * 2_000_000}).encode()
    assert len(jsonl.extract(long)[0].text) == 2_000_000
    monkeypatch.setattr(jsonl, "_LONGEST", 1_000_000)
    assert [part.reason for part in jsonl.extract(long + b'\n{"text": "fine"}')] == ["too_long", "corrupt"]


def test_lines_that_are_no_text_refuse_the_file() -> None:
    with pytest.raises(NotText, match="gzip"):
        jsonl.extract(b"\x1f\x8b rest")
    with pytest.raises(NotText, match="NUL"):
        jsonl.extract('{"text": "a"}'.encode("utf-16-le"))
