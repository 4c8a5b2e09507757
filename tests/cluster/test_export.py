"""Rows as files that other tools read back."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.datasets import SftRow
from cluster.domain.documents import Passage
from cluster.domain.users import Access
from cluster.errors import InvalidInput
from cluster.export import export_rows, safe_cell

ROWS = [
    SftRow(question="=1+1", answer="two\nlines", passages=("a", "b"), source="x#1"),
    SftRow(question="-5", answer="é", source="x#2"),
]
PASSAGE = Passage(id="d.0", document_id="d", corpus="c", number=0, text="t", start=3, end=4, source="s.md")


def test_json_lines_and_parquet_give_back_what_went_in(tmp_path: Path) -> None:
    assert export_rows(iter(ROWS), "jsonl", tmp_path / "rows.jsonl") == 2
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [SftRow.model_validate_json(line) for line in lines] == ROWS
    assert export_rows(iter(ROWS), "parquet", tmp_path / "rows.parquet") == 2
    table = parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [row["question"] for row in table] == ["=1+1", "-5"]
    assert json.loads(table[0]["passages"]) == ["a", "b"]


def test_csv_has_a_header_and_runs_no_formula(tmp_path: Path) -> None:
    export_rows(iter(ROWS), "csv", tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["question"] for row in rows] == ["'=1+1", "-5"]
    assert rows[0]["answer"] == "two\nlines"


def test_passages_keep_document_number_and_offsets(tmp_path: Path) -> None:
    export_rows(iter([PASSAGE]), "parquet", tmp_path / "p.parquet")
    (row,) = parquet.read_table(tmp_path / "p.parquet").to_pylist()
    assert (row["document_id"], row["number"], row["start"], row["end"], row["source"], row["page"]) == (
        "d",
        0,
        3,
        4,
        "s.md",
        None,
    )


@pytest.mark.parametrize(
    "cell", ["=CMD()", "+1+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1+1", "-", "--5", "=-5", "+a1"]
)
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(cell: str) -> None:
    assert safe_cell(cell) == "'" + cell


@pytest.mark.parametrize(
    "cell", ["-5", "+3.2", "-1,234.50", "-2e-3", "-7 %", "-5 €", "5-4", "a=b", "", "Oak House", "mail@x.example"]
)
def test_numbers_and_words_stay_as_they_are(cell: str) -> None:
    assert safe_cell(cell) == cell


@given(st.text())
def test_no_safe_cell_begins_as_a_formula_that_is_no_number(text: str) -> None:
    cell = safe_cell(text)
    assert cell.endswith(text)
    shown = cell.lstrip(" ")
    assert not shown.startswith(("=", "@", "\t", "\r"))
    assert not shown.startswith(("+", "-")) or not any(sign.isalpha() and sign not in "eE" for sign in shown)


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    def broken() -> object:
        yield ROWS[0]
        raise RuntimeError("torn")

    with pytest.raises(RuntimeError):
        export_rows(broken(), "jsonl", tmp_path / "rows.jsonl")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidInput, match="give a file"):
        export_rows(iter(ROWS), "parquet", None)
    with pytest.raises(InvalidInput, match="cannot be written"):
        export_rows(iter(ROWS), "csv", tmp_path / "no" / "such.csv")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_who_may_read_a_passage_is_told_whichever_comes_first(tmp_path: Path, form: Any) -> None:
    for_some = PASSAGE.model_copy(update={"readers": Access(users=("ada",))})
    export_rows(iter([PASSAGE, for_some]), form, tmp_path / "rows")
    if form == "csv":
        with (tmp_path / "rows").open(newline="", encoding="utf-8") as file:
            readers = [row["readers"] for row in csv.DictReader(file)]
    else:
        readers = [row["readers"] for row in parquet.read_table(tmp_path / "rows").to_pylist()]
    assert not readers[0]
    assert json.loads(readers[1])["users"] == ["ada"]
