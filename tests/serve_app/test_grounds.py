"""What an answer rests on: budgets, "not in the sources", rewritten queries and the finalist's last word, with a finalist of real HTTP."""

import json
import time
from typing import Any

import pytest

from cluster.catalog import conversations
from cluster.domain.agents import NOTHING_SAID
from cluster.domain.conversations import Turn
from cluster.domain.prompts import prompt_ids, render, training_ids
from cluster.domain.signals import Signal, consequences
from cluster.domain.validation import PatternRule
from cluster.model_roles import ModelRole
from serve_app.engine import GenerationRequest, ScriptedEngine
from serve_app.finalist import Finalist
from tests.conftest import ChatServer
from tests.serve_app.conftest import House, chat, tokenizer
from tests.serve_app.passages import agent, passage, publish

FACTS = [passage(n, f"The rent of house {n} is {900 + n} euros a month and is due on day {n}.") for n in range(1, 9)]
TALK = [{"role": "user", "content": "Tell me of house 3."}, {"role": "assistant", "content": "House 3 is old."}]


def finalist(house: House, server: ChatServer | None, **seconds: float) -> None:
    """Let the finalist be the model behind a server; None: the base."""
    models, router = house.settings.models, house.settings.router
    if server is not None:
        models = models.model_copy(update={"finalist": ModelRole(name="big", endpoint=server.endpoint, key="k")})
    changed = house.settings.model_copy(update={"models": models, "router": router.model_copy(update=seconds)})
    house.gateway.answering.finalist = Finalist(changed, house.gateway.bases)


async def ask(house: House, question: str = "What is the rent of house 3?", before: Any = (), **more: Any) -> dict[str, Any]:
    async with house.client() as client:
        body = {**chat("facts", question), "messages": [*before, {"role": "user", "content": question}], **more}
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def text(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


def turn_of(house: House, answer: dict[str, Any]) -> Turn:
    with house.catalog.reading() as work:
        return conversations.turn(work, answer["treadle"]["turn_id"])


async def test_passages_keep_to_the_cards_budget_and_the_turn_trains_on_what_was_served(house: House) -> None:
    publish(house, 1, *FACTS)
    await agent(house, top_k=8, passage_tokens=120)
    whole = await ask(house, treadle={"retrieve": False})
    cut = await ask(house, before=TALK)
    real = tokenizer(house.settings.models.base.location)
    spent = cut["usage"]["prompt_tokens"] - len(
        prompt_ids(real, render("Answer.", "What is the rent of house 3?", turn_of(house, cut).history))
    )
    assert 0 < spent <= 120
    assert 0 < len(cut["treadle"]["citations"]) < 8
    assert "passages_cut" in cut["treadle"]["flags"]
    assert "passages_cut" not in whole["treadle"]["flags"]
    turn = turn_of(house, cut)
    (made,) = consequences(turn, [Signal(turn_id=turn.id, kind="thumb", value="up", user="ada")])
    row: Any = made.row
    trained, _ = training_ids(real, render("Answer.", row.question, row.history, row.passages), row.answer)
    assert trained == list(house.engine.asked[-1].prompt_ids)


async def test_auto_leaves_room_for_the_answer(house: House) -> None:
    long = [passage(n, f"House {n}: " + f"the rent is {n} euros and the lift is old. " * 12) for n in range(8)]
    publish(house, 1, *long)
    await agent(house, top_k=8, passage_tokens="auto", generation={"max_tokens": 300})
    found = await ask(house)
    assert found["usage"]["prompt_tokens"] <= 1024 - 300
    assert house.engine.asked[-1].max_tokens == 300
    assert 0 < len(found["treadle"]["citations"]) < 8


async def test_passages_that_are_too_long_for_the_model_go_before_the_question_is_refused(house: House) -> None:
    long = [passage(n, f"House {n}: " + f"the rent is {n} euros and the lift is old. " * 12) for n in range(8)]
    publish(house, 1, *long)
    await agent(house, top_k=8)
    found = await ask(house)
    assert found["treadle"]["flags"] == ["passages_cut"]
    assert found["usage"]["prompt_tokens"] < 1024


@pytest.mark.parametrize("shorten", [False, True])
async def test_a_long_talk_is_shortened_where_the_card_says_so(house: House, shorten: bool) -> None:
    publish(house, 1, *FACTS)
    await agent(house, shorten_history=shorten)
    talk = TALK * 60
    async with house.client() as client:
        body = {"model": "facts", "messages": [*talk, {"role": "user", "content": "And house 4?"}]}
        answer = await client.post("/v1/chat/completions", json=body)
    if not shorten:
        assert answer.status_code == 400
        assert "shorter history" in answer.json()["error"]["message"]
        return
    turn = turn_of(house, answer.json())
    assert 0 < len(turn.history) < len(talk)
    assert turn.history[0].content == "Tell me of house 3."
    assert "history_shortened" in turn.flags


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_not_in_the_sources_is_said_and_not_made_up(house: House, stream: bool) -> None:
    publish(house, 1, *FACTS)
    rules = (PatternRule(kind="must_match", name="timeline", patterns=(r"days",)),)
    await agent(house, min_score=0.6, when_nothing="say", rules=rules)
    async with house.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat("facts", "Who won the world cup?", stream=stream))
    if stream:
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        said = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
        about = events[-1]["treadle"]
    else:
        said, about = text(answer.json()), answer.json()["treadle"]
    assert said == NOTHING_SAID
    assert "not_in_sources" in about["flags"]
    assert about["validation"]["passed"], "the sentence is the card's own"
    assert house.engine.asked == []
    with house.catalog.reading() as work:
        turn = conversations.turn(work, about["turn_id"])
    assert (turn.answer, turn.flags, turn.passages) == (NOTHING_SAID, ("not_in_sources",), ())
    known = await ask(house, "What is the rent of house 3?")
    assert "not_in_sources" not in known["treadle"]["flags"]
    assert text(known).startswith("base heard")
    await agent(house, min_score=0.6)
    assert text(await ask(house, "Who won the world cup?")).startswith("base heard"), "by default the model answers"


async def test_a_question_is_rewritten_for_the_search_alone(house: House, chat_server: ChatServer) -> None:
    publish(house, 1, *FACTS)
    await agent(house, top_k=1)
    finalist(house, chat_server)
    chat_server.answer = lambda body: '"What is the rent of house 3?"'
    first = await ask(house, "What is the rent of house 3?")
    assert chat_server.requests == [], "without a history there is nothing to rewrite"
    found = await ask(house, "And what must one pay there?", before=TALK)
    turn = turn_of(house, found)
    assert found["treadle"]["query"] == turn.query == "What is the rent of house 3?"
    assert found["treadle"]["citations"] == first["treadle"]["citations"]
    assert turn.question == "And what must one pay there?"
    assert "House 3 is old." in chat_server.requests[0]["messages"][-1]["content"]
    assert chat_server.headers[0]["Authorization"] == "Bearer k"
    assert found["treadle"]["timings"]["rewrite"] > 0
    real = tokenizer(house.settings.models.base.location)
    assert house.engine.asked[-1].prompt_ids == prompt_ids(
        real, render("Answer.", turn.question, turn.history, [turn.passages[0].text])
    )
    await agent(house, top_k=1, rewrite=False)
    assert "query" not in (await ask(house, "And there?", before=TALK))["treadle"]
    assert len(chat_server.requests) == 1


@pytest.mark.parametrize("trouble", ["slow", "refuses", "says nothing"])
async def test_a_finalist_in_trouble_leaves_the_question_as_it_stands(
    house: House, chat_server: ChatServer, trouble: str
) -> None:
    publish(house, 1, *FACTS)
    await agent(house, top_k=1)
    finalist(house, chat_server, rewrite_seconds=0.2)
    chat_server.slow = 1.0 if trouble == "slow" else 0.0
    chat_server.answer = lambda body: (401, {}) if trouble == "refuses" else " "
    start = time.perf_counter()
    found = await ask(house, before=TALK)
    assert time.perf_counter() - start < 0.9
    assert found["treadle"]["flags"] == ["not_rewritten"]
    assert turn_of(house, found).query is None
    assert "house 3" in found["treadle"]["citations"][0]["text"]


async def test_the_base_rewrites_only_where_the_card_says_so(house: House) -> None:
    publish(house, 1, *FACTS)
    house.speaks(ScriptedEngine(lambda request: "rent of house 5"))
    await agent(house, top_k=1)
    assert "query" not in (await ask(house, "And there?", before=TALK))["treadle"]
    await agent(house, top_k=1, rewrite=True)
    found = await ask(house, "And there?", before=TALK)
    assert found["treadle"]["query"] == "rent of house 5"
    assert "house 5" in found["treadle"]["citations"][0]["text"]
    assert [request.adapter for request in house.engine.asked] == [None, None, None]


def drafting(request: GenerationRequest) -> str:
    return "It is 903 euros, said the adapter." if request.adapter else "The base says 903 [1]."


async def fusing(house: House, **changes: Any) -> None:
    publish(house, 1, *FACTS)
    card = await agent(house, top_k=2, fuse=True, **changes)
    house.speaks(ScriptedEngine(drafting))
    house.release("facts", "0.1.0", card=card, indexes={"facts": 1})
    await house.gateway.following.look()


@pytest.mark.parametrize("stream", [False, True])
async def test_the_finalist_has_the_last_word_and_both_answers_stand_in_the_turn(
    house: House, chat_server: ChatServer, stream: bool
) -> None:
    await fusing(house)
    finalist(house, chat_server)
    chat_server.answer = lambda body: "The rent of house 3 is 903 euros a month [1]."
    async with house.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat("facts", "What is the rent of house 3?", stream=stream))
    if stream:
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        said = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
        about = events[-1]["treadle"]
    else:
        said, about = text(answer.json()), answer.json()["treadle"]
    assert said == "The rent of house 3 is 903 euros a month [1]."
    assert about["cited"] == [1]
    assert about["flags"] == ["fused"]
    with house.catalog.reading() as work:
        turn = conversations.turn(work, about["turn_id"])
    assert (turn.answer, turn.draft) == (said, "It is 903 euros, said the adapter.")
    assert about["draft"] == turn.draft
    assert turn.release == "facts@0.1.0"
    (sent,) = chat_server.requests
    assert "said the adapter" in sent["messages"][-1]["content"]
    assert "[2]" in sent["messages"][-1]["content"]
    assert {"draft", "fuse"} <= set(about["timings"])


@pytest.mark.parametrize("trouble", ["slow", "refuses", "breaks a rule", "cites what is not there", "is cut off"])
async def test_a_finalist_that_fails_or_breaks_a_rule_leaves_the_adapters_answer(
    house: House, chat_server: ChatServer, trouble: str
) -> None:
    await fusing(house, rules=(PatternRule(kind="must_match", name="money", patterns=("euros",)),))
    finalist(house, chat_server, fuse_seconds=0.3)
    cut = {"choices": [{"message": {"content": "903 euros [1]"}, "finish_reason": "length"}]}
    says: dict[str, Any] = {
        "breaks a rule": "A lot [1].",
        "cites what is not there": "903 euros [7].",
        "refuses": (500, {}),
        "is cut off": (200, cut),
    }
    chat_server.slow = 1.0 if trouble == "slow" else 0.0
    chat_server.answer = lambda body: says.get(trouble, "903 euros [1].")
    found = await ask(house)
    assert text(found) == "It is 903 euros, said the adapter."
    assert found["treadle"]["flags"] == ["not_fused"]
    turn = turn_of(house, found)
    assert (turn.answer, turn.draft) == (text(found), None)


async def test_the_base_plays_the_finalist_where_there_is_no_other(house: House) -> None:
    await fusing(house)
    found = await ask(house)
    assert text(found) == "The base says 903 [1]."
    assert turn_of(house, found).draft == "It is 903 euros, said the adapter."
    assert [request.adapter for request in house.engine.asked] == ["facts@0.1.0", None]
    assert text(await ask(house, n=2)) == "It is 903 euros, said the adapter.", "several choices are the adapter's own"
    assert text(await ask(house, treadle={"retrieve": False})) == "It is 903 euros, said the adapter."


async def test_every_token_of_the_finalist_counts_against_the_day(house: House, chat_server: ChatServer) -> None:
    await fusing(house)
    finalist(house, chat_server)
    spent: list[int] = []
    house.gateway.answering._spent = lambda user, tokens: spent.append(tokens)
    chat_server.answer = lambda body: "903 euros [1]."
    found = await ask(house)
    assert sum(spent) == found["usage"]["total_tokens"] + len("It is 903 euros, said the adapter.".split()) + 100
