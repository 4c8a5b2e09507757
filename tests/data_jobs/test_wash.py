"""Washing changes no word but what it says, says why it drops what it drops, and changes nothing the second time."""

import random
import string
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cluster.domain.data_recipes import WashRecipe
from cluster.domain.documents import Document, Dropped, Kept
from cluster.errors import InvalidInput
from data_jobs.wash import check, text_digest, wash, washed


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("a\x00b\x07c\u200bd\u00ade\ufefff", "abcdef"),
        ("a\x00b\x07c", "abc"),
        ("a\x0bb", "a\nb"),
        ("a\u00a0b\u202fc", "a b c"),
        ("e\u0301", "é"),
        ("line  \t\nnext   ", "line\nnext"),
        ("a\n\n\n\n\nb", "a\n\nb"),
        ("\n\n    indented code\n\n", "    indented code"),
        ("tab\there", "tab\there"),
        ("\ud800lone", "lone"),
        ("   \n \t\n", ""),
        ("one\n\n\ftwo", "one\n\f\ntwo"),
        ("one \f    code", "one\n\f\n    code"),
        ("one\f\f\nthree", "one\n\f\n\n\f\nthree"),
        ("\f\n\fone\f\f", "one"),
        ("\f\f", ""),
    ],
)
def test_what_no_reader_would_miss_goes(dirty: str, clean: str) -> None:
    assert washed(dirty) == clean
    assert washed(clean) == clean


def test_washing_twice_changes_nothing_and_loses_no_word() -> None:
    pick = random.Random(3)
    pieces = [
        *string.ascii_letters,
        " ",
        "\n",
        "\r\n",
        "\t",
        "\f",
        "\x00",
        "\u200b",
        "\u00a0",
        "e\u0301",
        "東",
        "🙂",
        "  \n",
        "\ufeff",
    ]
    for _ in range(500):
        dirty = "".join(pick.choices(pieces, k=pick.randint(0, 60)))
        clean = washed(dirty)
        assert washed(clean) == clean
        assert not clean.startswith("\f")
        assert not clean.endswith("\f")
        seen = [char for char in unicodedata.normalize("NFC", dirty) if not char.isspace() and char not in "\x00\u200b\ufeff"]
        assert [char for char in clean if not char.isspace()] == list(unicodedata.normalize("NFC", "".join(seen)))


FRAGMENTS = [
    *(
        "\n",
        " ",
        "\f",
        "\t",
        "\u00a0",
        "\u200b",
        "e\u0301",
        "é",
        '"',
        "'",
        "`",
        "|",
        "\\n",
        "word",
        "1",
        "-",
        ".",
        ":",
        "=",
        "/",
        "[",
        "]",
        "_1]",
    ),
    *("a@b.co", "A@b.CO", "desk at x dot org", "+49 30 901820", "030/901820", "(212) 555-0123", "DE89 3704 0044 0532 0130 00"),
    *(
        "4111 1111 1111 1111",
        "8.8.8.8",
        "2001:4860::8888",
        "AKIA" + "ABCDEFGHIJKLMNOP",
        'password = "hunter' + '2"',
        "password: ",
        "token=",
    ),
    *(
        "a1b2c3d4e5f6a1b2c3d4",
        "https://u:p4" + "ss@h.io/x",
        "[EMAIL_1]",
        "[SECRET_3]",
        "-----BEGIN PRIVATE" + " KEY-----",
        "Bearer ",
    ),
    *(
        "-----END PRIVATE" + " KEY-----",
        "QUJDREVGR0hJSktMTU5PUFFS",
        "2024-01-01 10:00:00 INFO x\n",
        "at a.b(C.java:1)\n",
        "ERROR ",
    ),
    *("> quoted\n", "On Monday, x wrote:\n", "-- \n", "Thanks,\n", "From: x\nTo: y\nSubject: z\n", "Sent from my phone\n"),
    *(
        "same\n" * 13,
        "2024-01-01 10:00:00 INFO x\n" * 20,
        "    at f (a.js:1:2)\n" * 15,
        "---------- Forwarded message ---------\n",
    ),
]


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=4)), max_size=30).map("".join),
    st.sampled_from(["text/plain", "message/rfc822"]),
)
def test_a_washed_document_is_washed_already(text: str, media_type: str) -> None:
    document = Document(
        id="d", corpus="c", source="s", media_type=media_type, title=text[:50], text=text, digest="", meta={"notes": [text]}
    )
    outcome = wash(document, 1)
    if isinstance(outcome, Kept):
        assert wash(outcome.document, 1) == outcome


def test_a_kept_document_has_the_digest_of_its_washed_text(document: Any) -> None:
    outcome = wash(document("one\r\ntwo\x00 three four five six", title=" A\ntitle "), min_chars=5)
    assert isinstance(outcome, Kept)
    assert outcome.document.text == "one\ntwo three four five six"
    assert outcome.document.digest == text_digest(outcome.document.text)
    assert outcome.document.title == "A title"
    assert outcome.document.meta == {}


@pytest.mark.parametrize(
    ("text", "reason"), [("", "empty"), (" \n\x00\u200b", "empty"), ("a b c d", "too_short"), ("x" * 19, "too_short")]
)
def test_too_little_text_is_dropped_with_its_reason(document: Any, text: str, reason: str) -> None:
    assert wash(document(text), min_chars=20) == Dropped(source="a.md", reason=reason)


def test_title_text_and_meta_are_masked_with_one_numbering_and_counted(document: Callable[..., Document]) -> None:
    given_document = document("Ask desk@example.com or PORTER@example.com.", title="Mail of porter@example.com").model_copy(
        update={"meta": {"author": "desk@example.com", "page": 3, "tags": [{"by": "porter@example.com"}, None]}}
    )
    outcome = wash(given_document, 5)
    assert isinstance(outcome, Kept)
    assert outcome.document.title == "Mail of [EMAIL_1]"
    assert outcome.document.text == "Ask [EMAIL_2] or [EMAIL_1]."
    assert outcome.document.meta == {
        "author": "[EMAIL_2]",
        "page": 3,
        "tags": [{"by": "[EMAIL_1]"}, None],
        "washed": {"email": 5},
    }


def test_mail_is_cut_and_logs_are_folded_and_both_are_counted(document: Callable[..., Document]) -> None:
    log = "\n".join(f"2024-03-01 10:00:{second:02} INFO pump running" for second in range(20))
    text = f"It fails again:\n\n{log}\n\nOn Monday, the porter wrote:\n> all is well\n> is it\n\n-- \nThe desk"
    outcome = wash(document(text, media_type="message/rfc822"), 5)
    assert isinstance(outcome, Kept)
    assert outcome.document.meta["washed"] == {"folded_lines": 15, "quoted_lines": 3, "signature_lines": 4}
    assert outcome.document.text.startswith("It fails again:\n\n2024-03-01 10:00:00 INFO")
    assert outcome.document.text.endswith("10:00:19 INFO pump running")
    plain = wash(document(text), 5, WashRecipe(fold_from=0))
    assert isinstance(plain, Kept)
    assert plain.document.text == washed(text)


ENGLISH = "The lift in the east wing is inspected every spring, and the report is kept in the office on the second floor. " * 3
GERMAN = "Der Aufzug im Ostflügel wird in jedem Frühling geprüft, und der Bericht liegt im Büro im zweiten Stock bereit. " * 3


def test_other_languages_are_dropped_only_when_asked_and_only_where_long_enough(document: Callable[..., Document]) -> None:
    only_english = WashRecipe(languages=("en",))
    assert isinstance(wash(document(ENGLISH), 5, only_english), Kept)
    assert wash(document(GERMAN), 5, only_english) == Dropped(source="a.md", reason="other_language")
    assert isinstance(wash(document(GERMAN), 5), Kept)
    assert isinstance(wash(document("Der Aufzug im Ostflügel"), 5, only_english), Kept)


def test_quality_is_judged_only_when_asked(document: Callable[..., Document]) -> None:
    table = "| a | b |\n" + "\n".join(f"| {number} | {number * 7} |" for number in range(60))
    assert isinstance(wash(document(table), 5), Kept)
    assert wash(document(table), 5, WashRecipe(quality="gopher")) == Dropped(source="a.md", reason="quality_word_length")


def test_a_recipe_is_checked_before_work_starts() -> None:
    check(WashRecipe(languages=("en", "de")))
    with pytest.raises(InvalidInput, match="'xx' is no language"):
        check(WashRecipe(languages=("xx",)))
    with pytest.raises(InvalidInput, match="no numbering plan for 'XX'"):
        check(WashRecipe(phone_regions=("DE", "XX")))


@pytest.mark.parametrize(
    "wrong", [{"fold_from": 3}, {"phone_regions": ("de",)}, {"languages": ("English",)}, {"mask": ("name",)}, {"quality": "best"}]
)
def test_a_recipe_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WashRecipe(**wrong)
