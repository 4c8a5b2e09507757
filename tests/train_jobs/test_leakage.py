"""Questions that stand in training rows, planted and not."""

import json
from typing import Iterator

import pytest

from cluster.domain.conversations import Message
from cluster.domain.datasets import DpoRow, RouterRow, Row, SftRow
from cluster.domain.questions import Question
from cluster.flywheel import load_questions
from cluster.settings import ROOT
from train_jobs import leakage

DEMO = ROOT / "configs" / "demo"
SETS = {
    "linux": ("linux",),
    "python": ("python",),
    "property": ("property-requests", "property-facts", "property-rules"),
}


def sft(question: str, source: str = "t", history: tuple[Message, ...] = ()) -> tuple[str, Row]:
    return "rows", SftRow(question=question, answer="a", source=source, history=history)


def asked(*texts: str) -> list[Question]:
    return [Question(id=f"q{number}", text=text, expected="e") for number, text in enumerate(texts)]


def commands(count: int) -> list[tuple[str, Row]]:
    names = ("kettle", "otter", "piano", "helmet", "barrel", "lamp", "anchor", "quilt")
    return [sft(f"Restart the service {names[i % 8]}-{names[i // 8 % 8]}.", f"line {i}") for i in range(count)]


@pytest.mark.parametrize(
    "text",
    [
        "Restart the service glove-api.",
        "restart  the service GLOVE-API!",
        "Please restart the service glove-api, thanks.",
    ],
)
def test_the_same_request_is_met_however_it_is_dressed(text: str) -> None:
    found = leakage.find(asked("Restart the service glove-api."), [*commands(60), sft(text, "line 61")])
    assert found["q0"].source == "rows: line 61"
    assert found["q0"].share >= leakage.NEAR


def test_requests_of_one_kind_are_no_leaks_of_one_another() -> None:
    assert leakage.find(asked("Restart the service glove-api.", "Which command shows free memory?"), commands(60)) == {}


def test_another_number_is_another_request() -> None:
    rows = [*commands(30), sft("A list of the integers from 4 up to, not including, 333.")]
    assert leakage.find(asked("A list of the integers from 4 up to, not including, 7182."), rows) == {}


def test_histories_pairs_and_routes_are_looked_at_and_answers_are_not() -> None:
    rows: list[tuple[str, Row]] = [
        *commands(20),
        sft("And the second?", "history", (Message(role="user", content="Where is the blue key?"),)),
        ("pairs", DpoRow(question="Who cleans the stairs?", chosen="a", rejected="b", source="pair")),
        ("routes", RouterRow(text="Mend my bicycle.", agent=None, source="route")),
        ("rows", SftRow(question="Say it.", answer="When does the bus leave?", source="answer")),
    ]
    found = leakage.find(
        asked("Where is the blue key?", "Who cleans the stairs?", "Mend my bicycle.", "When does the bus leave?"), rows
    )
    assert {name: match.source for name, match in found.items()} == {
        "q0": "rows: history",
        "q1": "pairs: pair",
        "q2": "routes: route",
    }


def test_the_closest_row_is_named_and_scripts_without_spaces_are_read() -> None:
    rows = [*commands(20), sft("请告诉我明天北京的天气怎么样", "far"), sft("明天北京的天气怎么样？", "near")]
    assert leakage.find(asked("明天北京的天气怎么样"), rows)["q0"] == leakage.Match("q0", "rows: near", 1.0)
    assert leakage.find(asked("!!!"), rows) == {}
    assert leakage.find(asked("明天北京的天气怎么样"), []) == {}


def conversations(agent: str) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate((DEMO / "conversations" / f"{agent}.jsonl").read_text(encoding="utf-8").splitlines()):
        for message in json.loads(line)["messages"]:
            if message["role"] == "user":
                yield sft(message["content"], f"line {number}")


@pytest.mark.parametrize("agent", SETS)
def test_the_shipped_questions_are_not_in_the_shipped_conversations(agent: str) -> None:
    """A property of the data: what the demo measures is unseen. And it is found when it is not: copies and polite variants planted."""
    rows = list(conversations(agent))
    for line in (DEMO / "judgements.jsonl").read_text(encoding="utf-8").splitlines():
        rows.append(sft(json.loads(line)["question"], "judgement"))
    for name in SETS[agent]:
        questions = load_questions(str(DEMO / "questions" / f"{name}.yaml")).questions
        assert leakage.find(questions, rows) == {}
        planted = [sft(f"Please, {one.text.lower()}", one.id) for one in questions[:60:2]] + [
            sft(one.text, one.id) for one in questions[1:60:2]
        ]
        found = leakage.find(questions, [*rows, *planted])
        assert {name: match.source for name, match in found.items()} == {one.id: f"rows: {one.id}" for one in questions[:60]}
