"""Calls: sticky conversations, signed reports, transcripts that become turns."""

import json
import time
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from cluster.catalog import conversations, signals
from cluster.errors import Unauthenticated
from serve_app import voice
from tests.serve_app.conftest import House, chat

PATH = "/v1/voice/chat/completions"
HOOK = "/v1/voice/webhook"
SECRET = "0123456789abcdef" * 2
CALL = {"id": "call-1", "customer": {"number": "+41 00 000 00 00", "tags": ["x"]}, "metadata": {"flat": "3C"}}
TRANSCRIPT = [
    {"role": "system", "message": "Be kind."},
    {"role": "bot", "message": "Hello, how can I help?"},
    {"role": "user", "message": "The heating"},
    {"role": "user", "message": " is off."},
    {"role": "bot", "message": "A plumber comes within 2 days."},
    {"role": "user", "message": "Thanks, bye."},
    {"role": "bot", "message": "Goodbye."},
    {"role": "user", "message": "Hello?"},
]


@pytest.fixture
def hooked(house: House) -> House:
    router = house.settings.router.model_copy(update={"voice_secret": SecretStr(SECRET)})
    house.gateway.settings = house.settings.model_copy(update={"router": router})
    return house


def report(**changes: Any) -> dict[str, Any]:
    message = {"type": "end-of-call-report", "call": CALL, "agent": "property", "artifact": {"messages": TRANSCRIPT}}
    return {"message": {**message, **changes}}


async def send(house: House, value: Any, secret: str = SECRET, at: int | None = None, **headers: str) -> httpx.Response:
    body = json.dumps(value).encode()
    signed = {"X-Treadle-Signature": voice.sign(secret, int(time.time()) if at is None else at, body), **headers}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(house.app), base_url="http://treadle") as platform:
        return await platform.post(HOOK, content=body, headers=signed)


async def test_all_turns_of_a_call_are_one_conversation_with_its_metadata(house: House) -> None:
    body = {**chat("property", "The heating is off."), "call": CALL, "customer": {"name": "C"}, "metadata": {"a": 1, "b": [2]}}
    body |= {"tools": [{"type": "endCall"}], "stream": True, "temperature": 0.7}
    async with house.client() as client:
        first = await client.post(PATH, json=body)
        second = (await client.post(PATH, json={**chat("property", "When?"), "call": CALL})).json()
        other = (await client.post(PATH, json={**chat("property"), "call": {"id": "call-2"}})).json()
        plain = (await client.post(PATH, json=chat("property"))).json()
    assert first.status_code == 200
    assert first.text.rstrip().endswith("data: [DONE]")
    own = voice.conversation_of("call-1")
    assert second["treadle"]["conversation_id"] == own
    assert len({own, other["treadle"]["conversation_id"], plain["treadle"]["conversation_id"]}) == 3
    with house.catalog.reading() as work:
        turns = conversations.of_conversation(work, own)
    assert [turn.question for turn in turns] == ["The heating is off.", "When?"]
    assert turns[0].metadata == {"call": "call-1", "customer.number": "+41 00 000 00 00", "flat": "3C", "a": "1"}


async def test_metadata_of_any_shape_is_no_500(house: House) -> None:
    metadata = {"😀": "\x00", "n": float("nan"), "deep": {"a": 1}, "k" * 99: "v" * 999}
    text = json.dumps({**chat("property"), "call": {"id": "c", "metadata": metadata}})
    async with house.client() as client:
        answer = await client.post(PATH, content=text, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    with house.catalog.reading() as work:
        (turn,) = conversations.of_conversation(work, voice.conversation_of("c"))
    assert turn.metadata == {"call": "c", "😀": "\x00", "n": "nan", "k" * 64: "v" * 512}


async def test_a_call_belongs_to_whose_key_began_it(house: House) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        assert (await ada.post(PATH, json={**chat("property"), "call": CALL})).status_code == 200
        assert (await bob.post(PATH, json={**chat("property"), "call": CALL})).status_code == 404


async def test_a_report_becomes_a_conversation_once(hooked: House) -> None:
    first = await send(hooked, report())
    again = await send(hooked, report())
    assert first.status_code == 201, first.text
    assert first.json() == {"status": "kept", "conversation_id": voice.conversation_of("call-1"), "turns": 2, "new": 2}
    assert again.json()["new"] == 0
    with hooked.catalog.reading() as work:
        turns = conversations.of_conversation(work, voice.conversation_of("call-1"))
        found = signals.of_turns(work, [turn.id for turn in turns])
    assert [(turn.question, turn.answer) for turn in turns] == [
        ("The heating is off.", "A plumber comes within 2 days."),
        ("Thanks, bye.", "Goodbye."),
    ]
    assert [message.role for message in turns[1].history] == ["assistant", "user", "assistant"]
    assert {(turn.user, turn.agent, turn.release) for turn in turns} == {("voice", "property", None)}
    assert [signal.turn_id for signal in found] == [turns[1].id], "an answer that breaks a rule of the agent is noted"


async def test_a_report_that_names_no_agent_is_the_default_agents(hooked: House) -> None:
    kept = await send(hooked, report(agent=None))
    assert kept.status_code == 201, kept.text
    with hooked.catalog.reading() as work:
        turns = conversations.of_conversation(work, voice.conversation_of("call-1"))
    assert {turn.agent for turn in turns} == {"linux"}


async def test_a_report_of_a_call_that_was_answered_here_adds_what_is_missing(hooked: House) -> None:
    async with hooked.client() as client:
        answer = (await client.post(PATH, json={**chat("property", "The heating is off."), "call": CALL})).json()
    said = answer["choices"][0]["message"]["content"]
    messages = [{"role": "user", "content": "The heating is off."}, {"role": "assistant", "content": said}, *TRANSCRIPT[5:7]]
    kept = (await send(hooked, report(artifact={}, messages=messages))).json()
    assert (kept["turns"], kept["new"]) == (2, 1)
    with hooked.catalog.reading() as work:
        assert {turn.user for turn in conversations.of_conversation(work, kept["conversation_id"])} == {"ada"}


async def test_only_a_fresh_signature_over_this_very_body_counts(hooked: House) -> None:
    now = int(time.time())
    assert (await send(hooked, report(), at=now - 290)).status_code == 201
    for answer in (
        await send(hooked, report(), at=now - 400),
        await send(hooked, report(), at=now + 400),
        await send(hooked, report(), secret="f" * 32),
        await send(hooked, report(), **{"X-Treadle-Signature": ""}),
        await send(hooked, report(), **{"X-Treadle-Signature": "t=,v1="}),
        await send(hooked, report(), **{"X-Treadle-Signature": voice.sign(SECRET, now, b"another body")}),
    ):
        assert answer.status_code == 401, answer.text
    with pytest.raises(Unauthenticated):
        voice.check_signature(SECRET, "t=\u0663,v1=x", b"", 3)


async def test_without_a_secret_reports_are_refused(house: House) -> None:
    answer = await send(house, report())
    assert answer.status_code == 403
    assert "router.voice_secret" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("value", "status", "named"),
    [
        ([1], 400, "JSON object"),
        ({"message": 3}, 400, "report"),
        ({"message": {"type": "end-of-call-report"}}, 400, "call"),
        (report(agent="propert"), 400, "property"),
        (report(call={"id": ""}), 400, "id"),
        ({"message": {"type": "status-update"}}, 201, "ignored"),
    ],
)
async def test_reports_that_are_none(hooked: House, value: Any, status: int, named: str) -> None:
    answer = await send(hooked, value)
    assert answer.status_code == status, answer.text
    assert named in answer.text
