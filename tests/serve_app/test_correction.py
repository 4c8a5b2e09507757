"""An answer that breaks a rule is asked for once more, over HTTP."""

from typing import Any

import httpx
import pytest

from cluster.catalog import agents, conversations, signals
from cluster.domain.agents import Agent, GenerationSettings
from cluster.domain.conversations import Message
from cluster.domain.datasets import DpoRow
from cluster.domain.prompts import prompt_ids, render
from cluster.domain.signals import Signal, consequences
from cluster.domain.validation import PartsRule, ToneRule
from cluster.errors import Unavailable
from cluster.settings import LimitSettings
from serve_app.correction import ASKS
from serve_app.engine import GenerationRequest, ScriptedEngine
from tests.serve_app.conftest import House, chat, tokenizer
from tests.serve_app.test_chat import events
from train_jobs.scoring import Said

PARTS = {"an action": (r"\bwill (come|repair)\b",), "a timeline": (r"\bwithin \d+ (hours|days)\b",)}
CARD = Agent(
    name="support",
    prompt="Answer tenants.",
    rules=(PartsRule(parts=PARTS), ToneRule(forbidden=("your fault",), reason="Never blame the tenant.")),
    correct=True,
    generation=GenerationSettings(max_tokens=32),
)
BAD, HALF, GOOD = "It is your fault.", "We will come.", "We will come within 2 days."
WITHHELD = "We will come within 2 days, see ![x](https://evil.example/p.png?d=1)"


class Writer:
    """Says one text after another, and knows what it was asked."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.requests = list(texts), []

    def __call__(self, request: GenerationRequest) -> str:
        self.requests.append(request)
        return self.texts[min(len(self.requests), len(self.texts)) - 1]


async def ask(house: House, *texts: str, card: Agent = CARD, **more: Any) -> tuple[httpx.Response, Writer]:
    with house.catalog.transaction() as work:
        agents.save(work, card)
    await house.gateway.following.look()
    writer = Writer(*texts)
    house.speaks(ScriptedEngine(writer))
    async with house.client() as client:
        return await client.post("/v1/chat/completions", json={**chat("support", "No heat"), **more}), writer


async def test_a_repaired_answer_is_kept_counted_and_becomes_a_pair(house: House) -> None:
    house.settings.router.limits["user"] = LimitSettings(tokens_per_day=10_000)
    answer, writer = await ask(house, BAD, GOOD)
    body = answer.json()
    about = body["treadle"]
    assert body["choices"][0]["message"]["content"] == GOOD
    assert about["validation"] == {"passed": True, "failures": [], "reasons": []}
    reasons = ["The answer lacks an action and a timeline.", "Never blame the tenant."]
    assert about["correction"] == {"failures": ["must_have", "tone"], "reasons": reasons, "left": [], "kept": "second"}
    said = ASKS.format(reasons="\n".join(f"- {one}" for one in reasons))
    first = render(CARD.prompt, "No heat")
    again = [*first, Message(role="assistant", content=BAD), Message(role="user", content=said)]
    words = tokenizer(house.settings.models.base.location)
    assert [list(one.prompt_ids) for one in writer.requests] == [prompt_ids(words, first), prompt_ids(words, again)]
    assert {(one.adapter, one.max_tokens, one.temperature) for one in writer.requests} == {(None, 32, 0.0)}
    spent = sum(len(one.prompt_ids) for one in writer.requests) + len(BAD.split()) + len(GOOD.split())
    assert body["usage"]["total_tokens"] == spent == house.gateway.limits.used("tokens/ada", "day")
    assert about["timings"]["correction"] <= about["timings"]["total"]
    with house.catalog.reading() as work:
        turn = conversations.turn(work, about["turn_id"])
        found = signals.of_turns(work, [turn.id])
    assert (turn.answer, turn.correction.first, turn.correction.kept) == (GOOD, BAD, "second")
    assert [(one.kind, one.value) for one in found] == [("failed_validation", ["must_have", "tone"])]
    (made,) = consequences(turn, found)
    assert made.signal_id == found[0].id
    assert made.row == DpoRow(question="No heat", chosen=GOOD, rejected=BAD, source=f"turn:{turn.id}")


async def test_evaluation_meets_the_same(house: House) -> None:
    answer, writer = await ask(house, BAD, GOOD, treadle={"retrieve": True, "record": False})
    said = Said.of(answer.json())
    assert (said.text, said.valid, len(writer.requests)) == (GOOD, True, 2)
    with house.catalog.reading() as work:
        assert conversations.recent(work) == []


async def test_an_answer_that_keeps_its_rules_is_asked_for_once(house: House) -> None:
    answer, writer = await ask(house, GOOD)
    assert len(writer.requests) == 1
    assert "correction" not in answer.json()["treadle"]


@pytest.mark.parametrize("second", [BAD, "Your fault, and we come.", "", WITHHELD])
async def test_a_second_answer_that_is_no_better_is_not_kept(house: House, second: str) -> None:
    answer, writer = await ask(house, BAD, second)
    body = answer.json()
    assert len(writer.requests) == 2
    assert body["choices"][0]["message"]["content"] == BAD
    assert body["treadle"]["correction"]["kept"] == "first"
    assert body["treadle"]["validation"]["failures"] == ["must_have", "tone"]
    assert body["treadle"]["flags"] == []
    with house.catalog.reading() as work:
        turn = conversations.turn(work, body["treadle"]["turn_id"])
        assert consequences(turn, signals.of_turns(work, [turn.id])) == []


async def test_a_better_one_that_still_breaks_a_rule_is_shown_and_taught_to_nobody(house: House) -> None:
    answer, _ = await ask(house, BAD, HALF)
    body = answer.json()
    assert body["choices"][0]["message"]["content"] == HALF
    assert body["treadle"]["validation"]["reasons"] == ["The answer lacks a timeline."]
    with house.catalog.reading() as work:
        turn = conversations.turn(work, body["treadle"]["turn_id"])
        assert consequences(turn, signals.of_turns(work, [turn.id])) == []


async def test_the_first_answer_stands_when_the_engine_gives_no_second(house: House) -> None:
    def once(request: GenerationRequest) -> str:
        if len(house.engine.asked) > 1:
            raise Unavailable("The engine is gone.")
        return BAD

    await ask(house, GOOD)
    house.speaks(ScriptedEngine(once))
    async with house.client() as client:
        answer = (await client.post("/v1/chat/completions", json=chat("support", "No heat"))).json()
    assert len(house.engine.asked) == 2
    assert answer["choices"][0]["message"]["content"] == BAD
    assert "correction" not in answer["treadle"]


async def test_the_first_answer_stands_when_the_prompt_grows_too_long(house: House) -> None:
    answer, writer = await ask(house, BAD, GOOD, messages=[{"role": "user", "content": "9 " * 490}])
    assert len(writer.requests) == 1
    assert answer.json()["choices"][0]["message"]["content"] == BAD
    assert "correction" not in answer.json()["treadle"]


@pytest.mark.parametrize("more", [{"stream": True}, {"n": 2}, {"logprobs": True}])
async def test_streams_and_several_choices_are_flagged_and_not_corrected(house: House, more: dict[str, Any]) -> None:
    answer, writer = await ask(house, BAD, BAD, GOOD, **more)
    about = (events(answer.text)[-1] if "stream" in more else answer.json())["treadle"]
    assert BAD.split()[-1] in answer.text
    assert len(writer.requests) == more.get("n", 1)
    assert about["validation"]["failures"] == ["must_have", "tone"]
    assert len(about["validation"]["reasons"]) == 2
    assert "correction" not in about
    with house.catalog.reading() as work:
        assert [one.value for one in signals.of_turns(work, [about["turn_id"]])] == [["must_have", "tone"]]


async def test_without_the_card_s_word_nothing_is_asked_again(house: House) -> None:
    answer, writer = await ask(house, BAD, GOOD, card=CARD.model_copy(update={"correct": False}))
    assert len(writer.requests) == 1
    assert answer.json()["choices"][0]["message"]["content"] == BAD


async def test_a_person_s_word_goes_before_a_repair(house: House) -> None:
    answer, _ = await ask(house, BAD, GOOD)
    with house.catalog.reading() as work:
        turn = conversations.turn(work, answer.json()["treadle"]["turn_id"])
        found = signals.of_turns(work, [turn.id])

    def becomes(kind: Any, value: Any) -> list[Any]:
        return [one.row for one in consequences(turn, [*found, Signal(turn_id=turn.id, kind=kind, value=value, user="ada")])]

    assert becomes("thumb", "down") == []
    assert [row.kind for row in becomes("thumb", "up")] == ["sft", "dpo"]
    ideal = becomes("ideal_answer", "We will repair it within 1 days.")
    assert [row.rejected for row in ideal if isinstance(row, DpoRow)] == [GOOD]
    assert [row.kind for row in becomes("right_agent", "linux")] == ["router"]
