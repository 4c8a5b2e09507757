import pytest
from pydantic import ValidationError

from cluster.domain.conversations import Route, Turn
from cluster.domain.signals import Signal, consequences
from cluster.domain.validation import Validation


def turn(**changes):
    given = {"conversation_id": "c", "user": "u", "question": "q", "answer": "bad", "agent": "a", "release": "a@0.1.0"}
    return Turn(**{**given, "route": Route(agent="a"), "validation": Validation(passed=True), **changes})


def made(one, *signals):
    return consequences(one, [Signal(turn_id=one.id, user="u", kind=kind, value=value) for kind, value in signals])


def test_thumb_down_with_an_ideal_answer_is_row_pair_and_question():
    one = turn()
    found = made(one, ("thumb", "down"), ("ideal_answer", "good"))
    rows = {item.row.kind: item.row for item in found if item.row}
    assert rows["sft"].answer == "good"
    assert (rows["dpo"].chosen, rows["dpo"].rejected) == ("good", "bad")
    (question,) = [item.question for item in found if item.question]
    assert (question.text, question.expected) == ("q", "good")
    assert all(row.source == f"turn:{one.id}" for row in rows.values())


def test_wrong_agent_teaches_the_router_and_not_the_agent():
    found = made(turn(), ("right_agent", "b"), ("ideal_answer", "good"))
    assert [(item.row.kind, item.row.agent) for item in found] == [("router", "b")]


def test_out_of_scope_is_a_router_row_without_agent():
    (found,) = made(turn(), ("right_agent", None))
    assert found.row.agent is None


def test_thumb_up_is_a_candidate_row():
    (found,) = made(turn(answer="fine"), ("thumb", "up"))
    assert (found.row.kind, found.row.answer) == ("sft", "fine")


def test_thumb_down_alone_becomes_nothing():
    assert made(turn(), ("thumb", "down")) == []


def test_an_ideal_answer_equal_to_the_answer_is_no_pair():
    kinds = [item.row.kind for item in made(turn(), ("ideal_answer", "bad")) if item.row]
    assert kinds == ["sft"]


def test_the_newest_judgement_wins():
    found = made(turn(), ("ideal_answer", "first"), ("ideal_answer", "second"))
    assert {item.row.answer for item in found if item.row and item.row.kind == "sft"} == {"second"}


@pytest.mark.parametrize(("kind", "value"), [("thumb", "sideways"), ("ideal_answer", " "), ("right_agent", 3)])
def test_a_value_that_does_not_fit_is_refused(kind, value):
    with pytest.raises(ValidationError):
        Signal(turn_id="t", user="u", kind=kind, value=value)
