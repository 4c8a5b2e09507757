"""An answer beside the organisation's own, over HTTP: only where the card asks for it."""

from typing import Any

import pytest

from cluster.catalog import Catalog, agents, questions
from cluster.catalog import signals as catalog_signals
from cluster.domain.agents import Agent
from cluster.domain.questions import Question, QuestionSet
from cluster.domain.signals import Signal
from cluster.domain.validation import SimilarityRule
from serve_app import references
from serve_app.engine import ScriptedEngine
from tests.serve_app.conftest import House, chat

OPEN = "The office is open from nine to five on weekdays."
SET = QuestionSet(
    name="office",
    agent="desk",
    questions=(
        Question(id="1", text="When is the office open?", kind="similarity", expected=(OPEN, "Nine to five, Monday to Friday.")),
        Question(id="2", text="Who repairs the heating?", expected="The caretaker repairs it."),
        Question(id="3", text="What is the gate code?", kind="contains", expected="4711"),
    ),
)


async def asked(house: House, question: str, said: str, rule: SimilarityRule) -> dict[str, Any]:
    with house.catalog.transaction() as work:
        agents.save(work, Agent(name="desk", prompt="Answer.", rules=(rule,)))
    await house.gateway.following.look()
    house.speaks(ScriptedEngine(lambda _: said))
    async with house.client() as client:
        return dict((await client.post("/v1/chat/completions", json=chat("desk", question))).json()["treadle"])


@pytest.fixture
def held(catalog: Catalog) -> None:
    with catalog.transaction() as work:
        questions.save_set(work, SET)


async def test_like_and_unlike_answers(house: House, held: None) -> None:
    rule = SimilarityRule(least=0.7)
    same = await asked(house, "At what hours is the office open?", OPEN, rule)
    cited = await asked(house, "Who repairs my heating?", "The caretaker repairs it. [2]", rule)
    other = await asked(house, "When does the office open?", "Bananas are yellow fruit.", rule)
    assert same["validation"] == {"passed": True, "failures": [], "reasons": [], "similarity": 1.0}
    assert cited["validation"]["similarity"] == 1.0
    assert other["validation"]["failures"] == ["similarity"]
    assert other["validation"]["similarity"] < 0.3
    (reason,) = other["validation"]["reasons"]
    assert "at least 0.7" in reason
    assert "nine" not in reason, "a correction must not be shown what it is judged by"


async def test_without_a_least_it_is_only_measured(house: House, held: None) -> None:
    verdict = (await asked(house, "When is the office open?", "Bananas.", SimilarityRule()))["validation"]
    assert verdict["passed"]
    assert 0 <= verdict["similarity"] < 0.5


@pytest.mark.parametrize("question", ["What is the gate code?", "Write a poem about the sea."])
async def test_a_question_without_a_like_one_is_not_measured(house: House, held: None, question: str) -> None:
    verdict = (await asked(house, question, "4711", SimilarityRule(least=0.9)))["validation"]
    assert verdict == {"passed": True, "failures": [], "reasons": []}


async def test_an_agent_without_references_is_not_measured(house: House) -> None:
    assert (await asked(house, "When?", "Now.", SimilarityRule(least=0.9)))["validation"]["passed"]


async def test_an_ideal_answer_counts_once_it_is_given(house: House, held: None, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = SimilarityRule(least=0.7)
    said = "It is closed this year."
    first = await asked(house, "When is the office open?", said, rule)
    with house.catalog.transaction() as work:
        catalog_signals.record(work, [Signal(turn_id=first["turn_id"], kind="ideal_answer", value=said, user="ada")])
    again = await asked(house, "When is the office open?", said, rule)
    assert not again["validation"]["passed"], "references are looked up every so often, not with every answer"
    monkeypatch.setattr(references, "EVERY_S", 0.0)
    await asked(house, "When is the office open?", said, rule)
    await house.gateway.references._looking.get("desk", _done())
    late = await asked(house, "When is the office open?", said, rule)
    assert (first["validation"]["passed"], late["validation"]["similarity"]) == (False, 1.0)


async def _done() -> None: ...


async def test_agents_that_do_not_ask_for_it_never_meet_it(house: House, held: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(references.References, "_read", refuse)
    async with house.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat("property"))
    assert answer.status_code == 200
    assert "similarity" not in answer.json()["treadle"]["validation"]
