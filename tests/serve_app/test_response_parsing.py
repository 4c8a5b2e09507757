"""What a model writes around its answer, over HTTP: never shown, streamed or whole, and kept on the turn."""

from typing import Any

import pytest

from cluster.catalog import agents, conversations, signals
from cluster.domain.agents import Agent
from cluster.domain.validation import NoDialogueRule
from serve_app.engine import ScriptedEngine
from tests.serve_app.conftest import House, chat
from tests.serve_app.test_chat import events

SAID = {
    "dialogue": ("At 9:00.\n\nUser: and on Sunday?\nAssistant: Closed.", "At 9:00."),
    "template": ("At 9:00.<|end|><|user|>and on Sunday?", "At 9:00."),
    "reasoning": ("<think> It is Monday, so <|end|> </think>\n\nAt 9:00.", "At 9:00."),
}


def streamed(text: str) -> tuple[str, dict[str, Any]]:
    chunks = events(text)
    said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    return said, chunks[-1]["treadle"]


@pytest.mark.parametrize("kind", SAID)
async def test_it_is_stripped_streamed_and_whole(house: House, kind: str) -> None:
    text, answer = SAID[kind]
    house.speaks(ScriptedEngine(lambda _: text))
    async with house.client() as client, house.client("eve", "curator") as curator:
        whole = (await client.post("/v1/chat/completions", json=chat("python"))).json()
        pieces = await client.post("/v1/chat/completions", json=chat("python", stream=True))
        several = (await client.post("/v1/chat/completions", json=chat("python", n=2))).json()
        ollama = (await client.post("/api/chat", json=chat("python", stream=False))).json()
        turn_id = whole["treadle"]["turn_id"]
        own, seen = [(await one.get(f"/v1/turns/{turn_id}")).json() for one in (client, curator)]
    said, about = streamed(pieces.text)
    assert whole["choices"][0]["message"]["content"] == said == answer == own["answer"] == ollama["message"]["content"]
    assert [choice["message"]["content"] for choice in several["choices"]] == [answer, answer]
    for found in (about, whole["treadle"], several["treadle"]):
        assert found["stripped"] == [kind]
        assert 0 < found["confidence"] < 1
    assert own["stripped"] == {"kinds": [kind], "confidence": about["confidence"]}
    hidden = seen["stripped"]["reasoning"] if kind == "reasoning" else seen["stripped"]["removed"]
    assert hidden
    assert hidden.strip() in text


async def test_a_dialogue_is_not_waited_for(house: House) -> None:
    engine = house.speaks(ScriptedEngine(lambda _: "At 9:00.<|end|>" + " more" * 25, pause=0.001))
    async with house.client() as client:
        body = chat("python", stream=True, stream_options={"include_usage": True})
        chunks = events((await client.post("/v1/chat/completions", json=body)).text)
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert engine.running == 0
    assert engine.written == 0


async def test_what_is_asked_for_and_code_are_left_alone(house: House) -> None:
    text = "```\nUser: a\nAssistant: b\n<|end|>\n```\nThe mark is `<|user|>`."
    house.speaks(ScriptedEngine(lambda _: text))
    async with house.client() as client:
        whole = (await client.post("/v1/chat/completions", json=chat("python"))).json()
        said, about = streamed((await client.post("/v1/chat/completions", json=chat("python", stream=True))).text)
    assert whole["choices"][0]["message"]["content"] == said == text
    assert (about["stripped"], about["confidence"]) == ([], 1.0)
    with house.catalog.reading() as work:
        assert "stripped" not in conversations.turn(work, about["turn_id"]).model_dump(mode="json")


@pytest.mark.parametrize("more", [{"response_format": {"type": "json_object"}}, {"logprobs": True}])
async def test_grammars_and_logprobs_have_the_text_as_it_is(house: House, more: dict[str, Any]) -> None:
    text = '{"said": "<|end|>"}\n'
    house.speaks(ScriptedEngine(lambda _: text))
    async with house.client() as client:
        whole = (await client.post("/v1/chat/completions", json=chat("python", **more))).json()
    assert whole["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize("stream", [False, True])
async def test_simulated_dialogue_is_a_failure_where_a_rule_says_so(house: House, stream: bool) -> None:
    """One that was asked for is none."""
    with house.catalog.transaction() as work:
        agents.save(work, Agent(name="strict", prompt="Answer.", rules=(NoDialogueRule(),)))
    await house.gateway.following.look()
    house.speaks(ScriptedEngine(lambda _: SAID["dialogue"][0]))
    async with house.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat("strict", stream=stream))
        wanted = (await client.post("/v1/chat/completions", json=chat("strict", "Write a dialogue about opening hours."))).json()
    about = streamed(answer.text)[1] if stream else answer.json()["treadle"]
    assert about["validation"]["failures"] == ["no_dialogue"]
    assert wanted["choices"][0]["message"]["content"] == SAID["dialogue"][0]
    assert wanted["treadle"]["validation"]["passed"]
    with house.catalog.reading() as work:
        assert [one.value for one in signals.of_turns(work, [about["turn_id"]])] == [["no_dialogue"]]
