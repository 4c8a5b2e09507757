"""Records: which field is the text, what may leave an extractor, and cells that no spreadsheet runs."""

import datetime
import decimal
from typing import Any

import pytest

from data_jobs.extract.part import Options, Part
from data_jobs.extract.record import as_part, finished, has_field, plain, too_deep, whole

NESTED = {"id": 7, "post": {"head": "Rent", "inner": {"text": "It is 900."}}, "a.b": "dotted"}


def test_mapped_fields_may_lie_in_objects() -> None:
    part = as_part(NESTED, "line 1", Options(text_field="post.inner.text", title_field="post.head"))
    assert (part.text, part.title) == ("It is 900.", "Rent")
    assert part.meta == {"id": 7, "post": {"inner": {}}, "a.b": "dotted"}


def test_a_key_with_a_dot_in_it_is_found_as_it_is() -> None:
    assert as_part(NESTED, "", Options(text_field="a.b")).text == "dotted"
    assert has_field(NESTED, "post.inner")
    assert not has_field(NESTED, "post.inner.text.more")


@pytest.mark.parametrize("options", [Options(text_field="post.txt"), Options(title_field="headline")])
def test_a_record_without_the_mapped_field_is_set_aside_with_the_names_there_are(options: Options) -> None:
    part = as_part(NESTED, "line 1", options)
    assert part.reason == "missing_field"
    assert str(options.text_field or options.title_field) in part.problem
    assert "id, post, a.b" in part.problem


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (900, "900"), (["a", "b"], "a\nb"), ({"k": 1}, '{"k": 1}'), (" kept ", " kept ")]
)
def test_a_mapped_field_of_another_type_is_said(value: Any, text: str) -> None:
    assert as_part({"t": value}, "", Options(text_field="t")).text == text


def test_a_record_nested_too_deep_is_set_aside() -> None:
    bomb: Any = "core"
    for _ in range(150):
        bomb = [{"in": bomb}]
    assert too_deep(bomb)
    assert as_part({"text": "hello", "bomb": bomb}, "line 1").reason == "too_deep"
    assert not too_deep({"text": "hello", "list": [[1], {"a": [2]}]})


def test_what_leaves_is_of_jsons_types() -> None:
    day, when = datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 8, 30, tzinfo=datetime.UTC)
    given_ = {
        "day": day,
        "when": when,
        "price": decimal.Decimal("9.90"),
        "raw": b"\x00",
        "n": float("nan"),
        1: ("a", b"b"),
        "t": None,
    }
    assert plain(given_) == {
        "day": "2024-02-29", "when": "2024-02-29T08:30:00+00:00", "price": "9.90", "n": "nan", "1": ["a"], "t": None,
    }  # fmt: skip


def test_half_characters_are_replaced_and_pairs_put_together() -> None:
    assert whole("a\ud800b") == "a\ufffdb"
    assert whole("\ud83d\ude00") == "\U0001f600"
    assert whole("Grüße") == "Grüße"
    (part,) = finished([Part(text="\udfff", title="\udfff", name="\udfff", meta={"\udfff": ["\udfff"]})])
    assert part == Part(text="\ufffd", title="\ufffd", name="\ufffd", meta={"\ufffd": ["\ufffd"]})


def test_no_two_parts_have_one_name() -> None:
    names = ["A-1", "A-1 (2)", "A-1", "A-1", "", ""]
    assert [part.name for part in finished(Part(text="", name=name) for name in names)] == [
        "A-1", "A-1 (2)", "A-1 (3)", "A-1 (4)", "", "",
    ]  # fmt: skip
