"""Finding files and reading them into rows, without Ray: the steps are plain functions."""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from cluster.domain.data_recipes import IngestRecipe
from cluster.domain.documents import Dropped, Quarantined
from cluster.settings import SourcesSettings
from data_jobs.documents import document_of, how_read, read_group, read_piece, refusal_of
from data_jobs.on_ray import Row
from data_jobs.pieces import pieces_of
from data_jobs.shards import Shards
from data_jobs.sources import Found, gather


def recipe(root: Path, **changes: Any) -> IngestRecipe:
    return IngestRecipe(paths=(str(root),), corpus="kb", **changes)


def found(path: Path) -> tuple[Found, ...]:
    return gather([str(path)], path.parent / "spool", SourcesSettings()).files


def read(path: Path, **changes: Any) -> list[Row]:
    """The rows of every file under the path."""
    asked = recipe(path, **changes)
    pieces = pieces_of([(one.path, one.source) for one in found(path)], how_read(asked))
    return [row for piece in pieces for row in read_piece(piece, asked)]


def test_each_record_is_a_document_and_each_bad_one_a_reason(files: Any) -> None:
    path = files.raw("a.jsonl", '{"text": "The first record is long enough."}\n{broken\n{"text": "short"}\n')
    rows = read(path)
    assert [(row["source"], row["refusal"]) for row in rows] == [
        ("a.jsonl#line 1", ""),
        ("a.jsonl#line 2", "quarantined"),
        ("a.jsonl#line 3", "dropped"),
    ]
    refused = [refusal_of(row) for row in rows[1:]]
    assert isinstance(refused[0], Quarantined)
    assert refused[0].reason == "corrupt"
    assert refused[1] == Dropped(source="a.jsonl#line 3", reason="too_short")


def test_an_identity_changes_with_what_the_index_would_show(files: Any) -> None:
    path = files.raw("a.md", "# Title\n\nA text that is long enough to keep.")
    (before,) = read(path)
    files.raw("a.md", "# Title\r\n\r\nA text that is long enough to keep.  ")
    (same,) = read(path)
    files.raw("a.md", "# Other\n\nA text that is long enough to keep.")
    (other,) = read(path)
    assert before["identity"] == same["identity"] != other["identity"]


def test_a_document_without_title_takes_its_files_name(files: Any) -> None:
    path = files.raw("house_rules-2024.txt", "A text that is long enough to keep.")
    (row,) = read(path)
    assert document_of(row, "kb").title == "house rules 2024"


def test_a_group_is_kept_as_a_shard_that_names_its_pieces(files: Any, tmp_path: Path) -> None:
    files.raw("a.txt", "A text that is long enough to keep.")
    files.raw("b.txt", "hi")
    asked = recipe(files.root)
    pieces = pieces_of([(one.path, one.source) for one in found(files.root)], how_read(asked))
    (done,) = read_group({"pieces": pieces}, asked, str(tmp_path / "washed"))
    shards = Shards(str(tmp_path / "washed"))
    assert shards.names() == [done["shard"]]
    assert shards.keys(done["shard"]) == [piece.key for piece in pieces]
    assert (done["documents"], done["bytes"]) == (2, 37)
    rows = [row for batch in shards.batches(done["shard"], ["source", "refusal", "text", "piece"]) for row in batch.to_pylist()]
    assert [(row["source"], row["refusal"]) for row in rows] == [("a.txt", ""), ("b.txt", "dropped")]
    assert rows[0]["text"] == "A text that is long enough to keep."
    assert rows[1]["text"] == ""
    (kept,) = shards.rows(done["shard"], ["source", "piece"], "piece", [pieces[0].key])
    assert kept["source"] == "a.txt"


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_bytes_every_file_ends_as_something(files: Any, seed: int) -> None:
    """Random and half-valid bytes under every ending: no exception, and each row is a document or has a reason."""
    pick = random.Random(seed)
    heads = [b"", b"%PDF-1.7\n", b"PK\x03\x04", b"<html><body><p>", b'{"text": ', b"a,b\n", "é".encode("cp1252"), b"\xff\xfe"]
    for number in range(30):
        ending = pick.choice([".txt", ".md", ".html", ".pdf", ".docx", ".csv", ".jsonl", ".bin"])
        files.raw(f"{number}{ending}", pick.choice(heads) + pick.randbytes(pick.choice([0, 5, 400])))
    rows = read(files.root)
    assert {row["source"].split("#")[0] for row in rows} == {one.source for one in found(files.root)}
    for row in rows:
        assert bool(row["text"]) != bool(row["refusal"])
        if row["refusal"]:
            assert refusal_of(row).reason


def test_a_file_that_went_meanwhile_is_set_aside(files: Any) -> None:
    path = files.raw("a.txt", "A text that is long enough to keep.")
    pieces = pieces_of([(str(path), "a.txt")], "how")
    os.unlink(path)
    (row,) = read_piece(pieces[0], recipe(path))
    assert (row["refusal"], row["reason"]) == ("quarantined", "unreadable")
    (gone,) = pieces_of([(str(path), "a.txt")], "how")
    (row,) = read_piece(gone, recipe(path))
    assert row["reason"] == "unreadable"
