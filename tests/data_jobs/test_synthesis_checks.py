"""What a pair must be to be kept."""

import pytest

from cluster.domain.documents import Passage
from data_jobs.synthesis_checks import Pair, content_words, located, parts_of, refusal

TEXT = "The boiler of Oak House was\nreplaced in 2019. It is serviced every 12 months by the caretaker."
FOUR = "Analyse: It is about service.\nPlan: Read it.\nExecute: The boiler is serviced every 12 months.\nVerify: It says so."


def passage(text: str = TEXT) -> Passage:
    return Passage(
        id="d.0", document_id="d", corpus="c", number=0, text=text, start=0, end=len(text), heading="Oak House > Boiler"
    )


def pair(**changes: str) -> Pair:
    whole = {
        "kind": "qa",
        "question": "When was the boiler of Oak House replaced?",
        "answer": "The boiler was replaced in 2019.",
        "span": "The boiler of Oak House was replaced in 2019.",
    }
    return Pair(**{**whole, **changes})


def test_a_pair_whose_words_are_in_the_passage_passes() -> None:
    assert refusal(pair(), passage()) == ""
    assert refusal(pair(answer="In 2019."), passage()) == ""
    assert refusal(pair(kind="reasoning", answer=FOUR), passage()) == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"question": "When?"}, "bad_question"),
        ({"question": "The boiler of Oak House when"}, "bad_question"),
        ({"question": "word " * 61 + "?"}, "bad_question"),
        ({"answer": " "}, "no_answer"),
        ({"answer": "The passage does not say when."}, "no_answer"),
        ({"question": "When was the boiler in this passage replaced?"}, "not_self_contained"),
        ({"span": "The boiler of Elm House was replaced in 2019."}, "span_not_found"),
        ({"span": ""}, "span_not_found"),
        ({"answer": "Oak House"}, "answer_in_question"),
        ({"answer": "The boiler was replaced in 2020."}, "unsupported"),
        ({"answer": "A plumber from the city repaired it on Monday."}, "unsupported"),
        ({"answer": "¶"}, "unsupported"),
        ({"kind": "reasoning"}, "parts_missing"),
        ({"kind": "reasoning", "answer": FOUR.replace("Plan: Read it.", "Plan:")}, "parts_missing"),
        ({"kind": "reasoning", "answer": FOUR.replace("12 months", "13 months")}, "unsupported"),
    ],
)
def test_what_speaks_against_a_pair_has_a_name(changes: dict[str, str], reason: str) -> None:
    assert refusal(pair(**changes), passage()) == reason


def test_a_command_that_is_in_the_passage_is_supported_though_it_has_no_words() -> None:
    made = pair(question="Which command shows who is logged in?", answer="w", span="- Show who is logged in:\n\n`w`")
    assert refusal(made, passage("# w\n\n- Show who is logged in:\n\n`w`\n")) == ""


def test_spans_are_found_across_line_breaks_and_read_as_text() -> None:
    assert located("House was replaced", TEXT) == (18, 36)
    assert located("a.b", "a+b acb") is None
    assert located(" \n", TEXT) is None


def test_words_are_compared_by_their_stems() -> None:
    assert content_words("stopped stopping stops stop") == ["stop"] * 4
    assert content_words("The using of uses; a house's 7") == content_words("The using of uses; a house 7")


def test_parts_of_an_answer() -> None:
    assert parts_of("Analyse: a\nPlan: b: c\nExecute:\n1. d\nVerify: e") == {
        "Analyse": "a",
        "Plan": "b: c",
        "Execute": "1. d",
        "Verify": "e",
    }
    assert parts_of("no parts") == {}
