"""Washing changes no word, and says why it drops what it drops."""

import random
import string
import unicodedata
from typing import Any

import pytest

from cluster.domain.documents import Dropped, Kept
from data_jobs.wash import text_digest, wash, washed


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("a\x00b\x07c\u200bd\u00ade\ufefff", "abcdef"),
        ("a\u00a0b\u202fc", "a b c"),
        ("e\u0301", "é"),
        ("line  \t\nnext   ", "line\nnext"),
        ("a\n\n\n\n\nb", "a\n\nb"),
        ("\n\n    indented code\n\n", "    indented code"),
        ("tab\there", "tab\there"),
        ("\ud800lone", "lone"),
        ("   \n \t\n", ""),
    ],
)
def test_what_no_reader_would_miss_goes(dirty: str, clean: str) -> None:
    assert washed(dirty) == clean


def test_washing_twice_changes_nothing_and_loses_no_word() -> None:
    pick = random.Random(3)
    pieces = [*string.ascii_letters, " ", "\n", "\r\n", "\t", "\x00", "\u200b", "\u00a0", "e\u0301", "東", "🙂", "  \n", "\ufeff"]
    for _ in range(500):
        dirty = "".join(pick.choices(pieces, k=pick.randint(0, 60)))
        clean = washed(dirty)
        assert washed(clean) == clean
        seen = [char for char in unicodedata.normalize("NFC", dirty) if not char.isspace() and char not in "\x00\u200b\ufeff"]
        assert [char for char in clean if not char.isspace()] == list(unicodedata.normalize("NFC", "".join(seen)))


def test_a_kept_document_has_the_digest_of_its_washed_text(document: Any) -> None:
    outcome = wash(document("one\r\ntwo\x00 three four five six", title=" A\ntitle "), min_chars=5)
    assert isinstance(outcome, Kept)
    assert outcome.document.text == "one\ntwo three four five six"
    assert outcome.document.digest == text_digest(outcome.document.text)
    assert outcome.document.title == "A title"


@pytest.mark.parametrize(
    ("text", "reason"), [("", "empty"), (" \n\x00\u200b", "empty"), ("a b c d", "too_short"), ("x" * 19, "too_short")]
)
def test_too_little_text_is_dropped_with_its_reason(document: Any, text: str, reason: str) -> None:
    assert wash(document(text), min_chars=20) == Dropped(source="a.md", reason=reason)
