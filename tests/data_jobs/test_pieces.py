"""Files cut into pieces, and groups whose borders stay where they are."""

from pathlib import Path
from typing import Any

import pytest

from data_jobs import pieces as module
from data_jobs.pieces import Piece, group_key, grouped, pieces_of


def cut(path: Path, how: str = "how") -> list[Piece]:
    return pieces_of([(str(path), path.name)], how)


def test_a_key_knows_name_content_and_way_of_reading(files: Any) -> None:
    path, other = files.raw("a.txt", "one"), files.raw("b.txt", "one")
    (before,) = cut(path)
    assert cut(path) == [before]
    assert (before.start, before.end, before.first) == (0, 3, 1)
    keys = {before.key, cut(other)[0].key, cut(path, "another way")[0].key}
    path.write_text("two")
    assert len(keys | {cut(path)[0].key}) == 4


def test_json_lines_are_cut_at_line_ends(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE_BYTES", 100)
    lines = [b'{"text": "%s"}\n' % (b"x" * (number * 7 % 60)) for number in range(200)]
    path = files.raw("a.jsonl", b"".join(lines)[:-1])
    found = cut(path)
    data = path.read_bytes()
    assert len(found) > 20
    assert b"".join(data[one.start : one.end] for one in found) == data
    for one in found:
        assert one.first == data[: one.start].count(b"\n") + 1
        assert one.end == len(data) or data[one.end - 1 : one.end] == b"\n"
    assert len(cut(files.raw("a.csv", data))) == 1


def test_a_line_longer_than_a_slice_stays_whole(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE_BYTES", 10)
    assert [(one.start, one.end, one.first) for one in cut(files.raw("a.jsonl", b"1234567890123456789012345\n12\n"))] == [
        (0, 26, 1),
        (26, 29, 2),
    ]
    assert [(one.start, one.end) for one in cut(files.raw("b.jsonl", b""))] == [(0, 0)]


def test_a_file_more_changes_only_the_groups_beside_it() -> None:
    def groups(names: list[str]) -> set[str]:
        made = [Piece(group_key([name]), "", name, 0, 1000, 1) for name in names]
        found = list(grouped(made, lambda one: one.key, lambda one: one.end, 10**9, 10**9))
        assert [piece for group in found for piece in group] == made
        return {group_key(piece.key for piece in group) for group in found}

    names = [f"file{number:05}" for number in range(3000)]
    before, after = groups(names), groups([*names[:1234], "file01233b", *names[1234:]])
    assert len(before) > 20
    assert len(before - after) <= 2


def test_groups_are_bounded_in_number_and_size() -> None:
    made = [Piece("f" * 8, "", str(number), 0, 10, 1) for number in range(95)]
    assert [len(group) for group in grouped(made, lambda one: one.key, lambda one: one.end, 100, 1000)] == [10] * 9 + [5]
    assert [len(group) for group in grouped(made, lambda one: one.key, lambda one: one.end, 10**9, 30)] == [30, 30, 30, 5]
    large = [Piece("f" * 8, "", "large", 0, 10**6, 1)]
    assert list(grouped(large, lambda one: one.key, lambda one: one.end, 100, 10)) == [large]
