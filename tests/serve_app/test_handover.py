"""Handing over: by the person's word, by the request, and by an agent whose whole answer is the marker."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.catalog import agents, conversations
from cluster.domain.agents import Agent
from cluster.domain.base import digest_of
from cluster.domain.live_settings import Access
from cluster.domain.releases import Release
from serve_app.engine import Delta, GenerationRequest, ScriptedEngine
from serve_app.handover import NOT_HANDED_OVER, heard, wanted
from tests.serve_app.conftest import CARDS, House, chat
from tests.serve_app.talks import FOLLOWS, PROPERTY, Talk, change, picked

SHOWN = [Agent(name="python", display_name="Python helper"), Agent(name="hr", display_name="People Agent")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Let me speak to the python agent.", ("python", "")),
        ("Please, can I talk to Python helper?", ("python", "")),
        ("switch to python: how do I sort a list: by length?", ("python", "how do I sort a list: by length?")),
        ("I want to speak with the People agent please", ("hr", "")),
        ("connect me to hr", ("hr", "")),
        ("can I talk to somebody about the heating", None),
        ("let me speak to the cook", None),
        ("how do I switch to python 3.12?", None),
        ("let me speak to", None),
        ("switch to " + "a" * 100_000, None),
    ],
)
def test_whom_a_text_asks_for(text: str, found: tuple[str, str] | None) -> None:
    assert wanted(text, lambda: SHOWN) == found


async def test_who_asks_for_an_agent_gets_it_and_keeps_it(talk: House) -> None:
    async with talk.client() as client:
        one = Talk(client)
        await one.say(PROPERTY)
        asked = len(talk.engine.asked)
        handed = await one.say("Let me speak to the python agent.")
        assert picked(handed) == ("python", "handover")
        assert (handed["route"]["handed_from"], handed["flags"]) == ("property", ["handed_over"])
        assert one.text == "Python helper answers from here on; what is your question?"
        assert len(talk.engine.asked) == asked, "nothing was asked yet"
        assert picked(await one.say(FOLLOWS)) == ("python", "conversation")
        assert picked(await one.say(PROPERTY)) == ("property", "router")
        with_question = await one.say(f"switch to linux: {FOLLOWS}")
        assert (picked(with_question), with_question["route"]["handed_from"]) == (("linux", "handover"), "property")
    with talk.catalog.reading() as work:
        assert conversations.turn(work, with_question["turn_id"]).question == FOLLOWS


async def test_the_request_hands_over_with_its_question(talk: House) -> None:
    async with talk.client() as client:
        one = Talk(client)
        await one.say(PROPERTY)
        handed = await one.say(PROPERTY, handover="python")
        assert (picked(handed), handed["route"]["handed_from"]) == (("python", "handover"), "property")
        assert one.text.startswith("base heard"), "the agent answers, not a sentence"
        assert picked(await one.say(FOLLOWS)) == ("python", "conversation")
        first = await Talk(client).say(FOLLOWS, handover="property")
        assert (picked(first), first["route"]["handed_from"]) == (("property", "handover"), None)
        assert "did you mean python" in (await one.say(FOLLOWS, handover="pyton", status=404))["message"]
        assert "make model 'auto'" in (await one.say(FOLLOWS, "linux", handover="python", status=400))["message"]


async def test_nobody_is_handed_to_an_agent_that_is_not_for_them(talk: House) -> None:
    await change(talk, "python", access=Access(roles=("curator",)).model_dump())
    async with talk.client() as client, talk.client("grace", "curator") as curator:
        secret = await Talk(client).say(FOLLOWS, handover="python", status=404)
        nothing = await Talk(client).say(FOLLOWS, handover="pythom", status=404)
        assert secret["message"].replace("python", "pythom") == nothing["message"]
        assert (await Talk(client).say("Let me speak to the python agent."))["agent"] != "python"
        assert picked(await Talk(curator).say("Let me speak to the python agent.")) == ("python", "handover")
        one = Talk(client)
        await one.say("hello", "property")
        await change(talk, "property", access=Access(roles=("curator",)).model_dump())
        closed = await one.say("hello", handover="linux")
        assert (picked(closed), closed["route"]["handed_from"]) == (("linux", "handover"), None), (
            "nor is whom they may no longer use named"
        )


def marks(house: House, **said: str) -> None:
    """Agents by release that answer with a text of theirs; the others say who they are."""

    def script(request: GenerationRequest) -> str:
        name = (request.adapter or "base").partition("@")[0]
        return said.get(name, f"{name} speaks")

    house.speaks(ScriptedEngine(script))


async def may_hand(house: House, **to: tuple[str, ...]) -> list[Release]:
    made = []
    for card in CARDS:
        changed = card.model_copy(update={"hands_over_to": to.get(card.name, ()), "rules": ()})
        with house.catalog.transaction() as work:
            agents.save(work, changed)
        made.append(house.release(card.name, "0.1.0", card=changed))
    await house.gateway.following.look()
    return made


@pytest.mark.parametrize("stream", [False, True])
async def test_an_agent_hands_over_by_saying_nothing_but_the_marker(talk: House, stream: bool) -> None:
    marks(talk, property=" [[handover:python]]\n")
    await may_hand(talk, property=("python",))
    async with talk.client() as client:
        if stream:
            async with client.stream("POST", "/v1/chat/completions", json=chat("property", stream=True)) as answer:
                body = "".join([line async for line in answer.aiter_lines()])
            assert "[[" not in body
            assert '"handed_from": "property"' in body
            assert "python" in body
        one = Talk(client)
        handed = await one.say(PROPERTY)
        assert (picked(handed), handed["route"]["handed_from"]) == (("python", "handover"), "property")
        assert (one.text, handed["release"]) == ("python speaks", "python@0.1.0")
        assert picked(await one.say(FOLLOWS)) == ("python", "conversation")


async def test_a_marker_that_may_not_be_followed_is_a_sentence_and_names_nobody(talk: House) -> None:
    marks(talk, property="[[handover:python]]", python="[[handover:linux]]", linux="See [[handover:python]] for more.")
    await may_hand(talk, property=("python", "ghost"), python=("linux",))
    async with talk.client() as client:
        one = Talk(client)
        twice = await one.say(PROPERTY)
        assert (one.text, twice["agent"]) == (NOT_HANDED_OVER, "python"), "once a turn"
        assert (twice["flags"], twice["release"]) == (["not_handed_over"], None)
        await one.say("hello", "linux")
        assert one.text == "See [[handover:python]] for more.", "only an answer that is nothing else"
        await one.say("hello", "property@0.1.0")
        assert one.text == "[[handover:python]]", "a release answers as it was evaluated"
        await change(talk, "python", access=Access(roles=("curator",)).model_dump())
        for model in ("property", "property@0.1.0"):
            refused = await one.say("hello", model)
            assert (one.text, refused["agent"]) == (NOT_HANDED_OVER, "property")
        body = {**chat("property", n=3), "treadle": {"record": False}}
        choices = (await client.post("/v1/chat/completions", json=body)).json()["choices"]
        assert {choice["message"]["content"] for choice in choices} == {NOT_HANDED_OVER}


async def test_a_card_without_the_field_hands_nothing_over_and_keeps_its_digest(talk: House) -> None:
    marks(talk, property="[[handover:python]]")
    made = (await may_hand(talk))[1]
    async with talk.client() as client:
        one = Talk(client)
        await one.say(PROPERTY)
    assert one.text == "[[handover:python]]"
    card = made.card.model_dump(mode="json")
    other = Release.model_validate({**made.model_dump(), "card": {**card, "hands_over_to": ["linux"]}})
    assert made.digest != other.digest
    del card["hands_over_to"]
    parts = {"adapter": made.adapter_digest, "base": made.base_digest, "contract": made.prompt_contract, "indexes": made.indexes}
    assert made.digest == digest_of({"card": card, **parts}), "releases from before the field keep their digests"


async def test_an_answer_that_begins_like_a_marker_loses_nothing() -> None:
    async def pieces(*texts: str) -> AsyncIterator[Delta]:
        for number, text in enumerate(texts, 1):
            yield Delta(text, 1, "stop" if number == len(texts) else None)

    async def whole(*texts: str) -> tuple[Any, str]:
        one = await heard(pieces(*texts))
        return one.to, "".join([delta.text async for delta in one.deltas])

    assert await whole("[", "[hand", "over:", "linux", "]]") == ("linux", "[[handover:linux]]")
    assert await whole("[[hand", "le it]]", " so") == (None, "[[handle it]] so")
    assert await whole("[[handover:linux]]", " and", " more") == (None, "[[handover:linux]] and more")
    assert await whole(" ", " ", "[1, 2]") == (None, "  [1, 2]")
    assert await whole("plain") == (None, "plain")
