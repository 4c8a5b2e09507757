"""Answers that outlive the process that paid for them."""

from pathlib import Path

import pytest

from cluster.errors import Conflict
from data_jobs.synthesis_checks import Pair
from data_jobs.synthesis_journal import Entry, Journal

PAIR = Pair(kind="qa", question="q", answer="a", span="s")


def entry(key: str, about: str = "p") -> Entry:
    return Entry(key=key, about=about, pairs=(PAIR,), tokens_in=3, tokens_out=4)


def test_entries_are_on_disk_at_once_and_found_again(tmp_path: Path) -> None:
    file = tmp_path / "work" / "j.jsonl"
    journal = Journal(file, ["p"])
    journal.add(entry("k"))
    assert Entry.model_validate_json(file.read_text()) == entry("k")
    journal.close()
    again = Journal(file, ["p"])
    assert (again.get("k"), again.get("other"), len(again)) == (entry("k"), None, 1)
    again.close()


@pytest.mark.parametrize("torn", ['{"key": "k2", "ab', "\x00\x00", '{"key": "k2"}\n'])
def test_a_torn_end_costs_its_own_entry_only(tmp_path: Path, torn: str) -> None:
    file = tmp_path / "j.jsonl"
    file.write_text(entry("k").model_dump_json() + "\n" + torn)
    journal = Journal(file, ["p"])
    journal.add(entry("k3"))
    journal.close()
    assert [Entry.model_validate_json(line).key for line in file.read_text().splitlines()] == ["k", "k3"]


def test_a_whole_last_line_without_its_end_is_kept_apart_from_the_next(tmp_path: Path) -> None:
    file = tmp_path / "j.jsonl"
    file.write_text(entry("k").model_dump_json())
    journal = Journal(file, ["p"])
    journal.add(entry("k2"))
    journal.close()
    assert len(file.read_text().splitlines()) == 2


def test_what_the_corpus_forgot_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "j.jsonl"
    file.write_text("".join(one.model_dump_json() + "\n" for one in (entry("k", "gone"), entry("k2"))))
    journal = Journal(file, ["p"])
    assert (journal.get("k"), journal.get("k2")) == (None, entry("k2"))
    assert "gone" not in file.read_text()
    with pytest.raises(Conflict, match=r"j\.jsonl"):
        Journal(file, ["p"])
    journal.close()
