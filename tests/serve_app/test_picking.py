"""Who answers auto in a conversation: the last agent until the head is sure of another, whom the person asks for, whom they chose."""

from collections.abc import Sequence
from typing import Any

import pytest

from cluster.catalog import conversations, signals
from cluster.domain.conversations import Route
from cluster.domain.live_settings import Access
from cluster.domain.signals import Signal, consequences
from serve_app.ask import Ask
from serve_app.picking import SURE, staying
from serve_app.routes.chat import check_conversation
from tests.serve_app.conftest import House, chat
from tests.serve_app.talks import FOLLOWS, LINUX, NOBODY, PROPERTY, Talk, change, picked


async def test_a_conversation_stays_with_its_agent_until_the_topic_is_clearly_anothers(talk: House) -> None:
    async with talk.client() as client:
        one = Talk(client)
        assert picked(await one.say(PROPERTY)) == ("property", "router")
        stays = await one.say(FOLLOWS)
        assert picked(stays) == ("property", "conversation")
        assert stays["route"]["scores"]
        assert picked(await one.say(LINUX)) == ("linux", "router")
        assert picked(await one.say(FOLLOWS)) == ("linux", "conversation")
        assert picked(await Talk(client).say(FOLLOWS)) == ("linux", "default"), "without a conversation nothing is followed"


def test_another_agent_must_be_likelier_by_the_margin_and_in_scope() -> None:
    def after(held: str, linux: float, python: float, out: bool = False) -> tuple[str, str]:
        scores = {"linux": linux, "python": python}
        best = Route(agent="linux", scores=scores, chosen_by="default" if out else "router", out_of_scope=out)
        made = staying(best, held)
        return made.agent, made.chosen_by

    assert after("python", SURE + 0.1, 0.09) == ("linux", "router")
    assert after("python", SURE, 0.05) == ("python", "conversation")
    assert after("linux", 0.5, 0.4) == ("linux", "router")
    assert after("gone", SURE + 0.01, 0.0) == ("linux", "router")
    assert after("python", 0.1, 0.0, out=True) == ("python", "conversation")


async def test_an_agent_that_was_called_by_name_goes_on_and_stays_as_called(talk: House) -> None:
    async with talk.client() as client:
        one = Talk(client)
        assert picked(await one.say(LINUX, "python")) == ("python", "caller")
        assert picked(await one.say(FOLLOWS)) == ("python", "conversation")
        assert picked(await one.say(PROPERTY)) == ("property", "router")
        assert picked(await one.say(PROPERTY, "linux")) == ("linux", "caller"), "the head has no say where an agent is called"


async def test_without_a_head_the_last_agent_goes_on(house: House) -> None:
    async with house.client() as client:
        one = Talk(client)
        assert picked(await one.say("hello")) == ("linux", "default")
        assert picked(await one.say("hello", "python")) == ("python", "caller")
        assert picked(await one.say("hello again")) == ("python", "conversation")


async def test_who_may_no_longer_use_the_last_agent_does_not_stay_with_it(talk: House) -> None:
    async with talk.client() as client:
        one = Talk(client)
        await one.say("hello", "python")
        await change(talk, "python", access=Access(roles=("curator",)).model_dump())
        assert picked(await one.say(FOLLOWS)) == ("linux", "default")


async def test_a_client_that_sends_history_is_followed_by_its_last_question(talk: House) -> None:
    said = [{"role": "user", "content": PROPERTY}, {"role": "assistant", "content": "We come."}]
    async with talk.client() as client:
        body = {"model": "auto", "messages": [*said, {"role": "user", "content": FOLLOWS}]}
        follows = (await client.post("/v1/chat/completions", json=body)).json()["treadle"]
        moved = {**body, "messages": [*said, {"role": "user", "content": LINUX}]}
        switched = (await client.post("/v1/chat/completions", json=moved)).json()["treadle"]
    assert picked(follows) == ("property", "router")
    assert picked(switched) == ("linux", "router")


async def test_the_last_turn_comes_with_the_owner_in_one_read_and_only_for_auto(talk: House) -> None:
    async with talk.client() as client:
        one = Talk(client)
        await one.say(LINUX)
        await one.say(PROPERTY)
    reads: list[int] = []
    reading = talk.catalog.reading

    def counted() -> Any:
        reads.append(1)
        return reading()

    talk.gateway.catalog.reading = counted  # type: ignore[method-assign]
    for model, last in (("auto", "property"), ("linux", None)):
        found = check_conversation(talk.gateway, Ask(user="ada", model=model, messages=(), conversation_id=one.id)).last
        assert (found.agent if found else None) == last
    assert len(reads) == 2


async def ask_back(talk: House) -> None:
    await change(talk, out_of_scope="ask")


async def test_what_is_for_nobody_is_asked_back_with_the_agents_that_the_person_may_use(talk: House) -> None:
    await ask_back(talk)
    await change(talk, "python", access=Access(roles=("curator",)).model_dump())
    talk.engine.asked.clear()
    async with talk.client() as client:
        one = Talk(client)
        asked = await one.say(NOBODY)
        assert one.text.startswith("I am not sure who can help with that: 1. ")
        assert "Linux helper (For linux)" in one.text
        assert "Property support (For property)" in one.text
        assert "ython" not in one.text, "an agent that is not for somebody is not named to them"
        assert talk.engine.asked == [], "the engine is not asked"
        assert (asked["route"]["sentence"], asked["flags"], asked["release"]) == ("asked_back", ["asked_back"], None)
        assert picked(await Talk(client).say(LINUX)) == ("linux", "router")
        async with client.stream("POST", "/v1/chat/completions", json=chat("auto", NOBODY, stream=True)) as stream:
            lines = [line async for line in stream.aiter_lines() if line.startswith("data: {")]
    assert "I am not sure who can help with that" in lines[0]
    assert '"asked_back"' in lines[-1]
    with talk.catalog.reading() as work:
        turn = conversations.turn(work, asked["turn_id"])
    assert (turn.route.sentence, turn.release, turn.answer) == ("asked_back", None, one.text)
    assert sorted(turn.route.offered) == ["linux", "property"]


@pytest.mark.parametrize("reply", ["Property support, please.", "property", "NUMBER", "the SECOND-OR-FIRST one"])
async def test_the_reply_brings_the_first_question_to_the_agent_that_it_names(talk: House, reply: str) -> None:
    await ask_back(talk)
    heard: list[Sequence[int]] = []
    async with talk.client() as client:
        one = Talk(client)
        offered = (await one.say(NOBODY))["route"]["offered"]
        place = offered.index("property")
        said = reply.replace("NUMBER", f"{place + 1}.").replace("SECOND-OR-FIRST", ("first", "second", "third")[place])
        answer = await one.say(said)
        heard.append(talk.engine.asked[-1].prompt_ids)
        await one.say(NOBODY, "property")
        heard.append(talk.engine.asked[-1].prompt_ids)
        stays = await one.say(FOLLOWS)
    assert picked(answer) == ("property", "reply")
    assert heard[0] == heard[1], "the agent hears the question and not the reply"
    assert picked(stays) == ("property", "conversation")
    with talk.catalog.reading() as work:
        assert conversations.turn(work, answer["turn_id"]).question == NOBODY


async def test_a_reply_works_for_clients_that_send_history_only(talk: House) -> None:
    await ask_back(talk)
    messages: list[dict[str, str]] = [{"role": "user", "content": NOBODY}]
    async with talk.client() as client:
        asked = (await client.post("/v1/chat/completions", json={"model": "auto", "messages": messages})).json()
        messages += [asked["choices"][0]["message"], {"role": "user", "content": "Python helper"}]
        about = (await client.post("/v1/chat/completions", json={"model": "auto", "messages": messages})).json()["treadle"]
    assert picked(about) == ("python", "reply")
    with talk.catalog.reading() as work:
        turn = conversations.turn(work, about["turn_id"])
    assert (turn.question, turn.history) == (NOBODY, ())


async def test_a_reply_that_names_nobody_is_a_question_and_nobody_is_asked_twice_in_a_row(talk: House) -> None:
    await ask_back(talk)
    async with talk.client() as client:
        one = Talk(client)
        await one.say(NOBODY)
        assert picked(await one.say(LINUX)) == ("linux", "router")
        two = Talk(client)
        await two.say(NOBODY)
        again = await two.say("what a pity")
        assert (picked(again), again["route"]["sentence"]) == (("linux", "default"), None)
        three = Talk(client)
        await three.say(NOBODY)
        await change(talk, "property", access=Access(roles=("curator",)).model_dump())
        assert (await three.say("property"))["agent"] != "property", "what was offered may be over"


async def test_nobody_is_asked_back_where_the_settings_do_not_say_so_or_a_form_is_expected(talk: House) -> None:
    async with talk.client() as client:
        assert (await Talk(client).say(NOBODY))["route"]["sentence"] is None
        await ask_back(talk)
        body = chat("auto", NOBODY, response_format={"type": "json_object"})
        formed = (await client.post("/v1/chat/completions", json=body)).json()["treadle"]
        assert formed["route"]["sentence"] is None
        one = Talk(client)
        await one.say("hello", "python")
        assert picked(await one.say(NOBODY)) == ("python", "conversation")


async def test_two_agents_that_are_nearly_as_likely_are_offered(talk: House) -> None:
    between = "heating files broken directory flat shell list"
    async with talk.client() as client:
        scores = (await Talk(client).say(between))["route"]["scores"]
        assert abs(scores["linux"] - scores["property"]) < 0.2 < sum(scores.values())
        await change(talk, close_call="ask")
        one = Talk(client)
        asked = await one.say(between)
        assert one.text.startswith("Do you mean 1. ")
        assert sorted(asked["route"]["offered"]) == ["linux", "property"]
        assert picked(await one.say("2")) == (asked["route"]["offered"][1], "reply")
        assert picked(await Talk(client).say(LINUX)) == ("linux", "router")


async def test_nothing_is_learnt_from_what_the_service_said_itself(talk: House) -> None:
    await ask_back(talk)
    async with talk.client() as client:
        about = await Talk(client).say(NOBODY)
    with talk.catalog.transaction() as work:
        turn = conversations.turn(work, about["turn_id"])
        assert signals.of_turns(work, [turn.id]) == [], "no agent's rules are asked"
    up = Signal(turn_id=turn.id, kind="thumb", value="up", user="ada")
    ideal = Signal(turn_id=turn.id, kind="ideal_answer", value="Nobody.", user="ada")
    right = Signal(turn_id=turn.id, kind="right_agent", value=turn.agent, user="ada")
    assert consequences(turn, [up, ideal]) == []
    assert [one.row.kind for one in consequences(turn, [right]) if one.row] == ["router"]
