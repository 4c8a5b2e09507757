"""The client against a real server on this machine, good and bad."""

import asyncio
import pickle

import pytest

from cluster.chat_client import LONGEST_PAUSE, Answer, ChatClient, _pause, _retry_after, checked_endpoint, estimated_tokens
from cluster.errors import InvalidInput, Unauthenticated, Unavailable

ASKED = [{"role": "user", "content": "Well?"}]
KEY = "key-" + "x" * 12
AT_ONCE = {"Retry-After": "0"}


async def ask(server, messages=ASKED, key=KEY, retries=2, timeout=10.0, **options) -> Answer:
    async with ChatClient(server.endpoint, "m", key, retries=retries, timeout=timeout) as client:
        return await client.ask(messages, **options)


async def test_an_answer_has_its_text_and_the_servers_tokens(chat_server):
    assert await ask(chat_server, temperature=0.5) == Answer("yes", 100, 20, "stop")
    assert chat_server.requests == [{"model": "m", "messages": ASKED, "temperature": 0.5}]
    assert chat_server.headers[0]["Authorization"] == f"Bearer {KEY}"


async def test_without_a_key_none_is_sent_and_without_usage_tokens_are_estimated(chat_server):
    chat_server.usage = None
    answer = await ask(chat_server, key=None)
    assert (answer.tokens_in, answer.tokens_out) == (estimated_tokens(ASKED), 1)
    assert "Authorization" not in chat_server.headers[0]


@pytest.mark.parametrize(
    "bad",
    [
        (429, {"error": {"message": "slow down"}}, AT_ONCE),
        (503, b"<html>", AT_ONCE),
        (200, b"not json"),
        (200, {"choices": []}),
        (200, {"choices": [{"message": "text"}]}),
    ],
)
async def test_what_may_pass_is_asked_again(chat_server, bad, monkeypatch):
    monkeypatch.setattr("cluster.chat_client.FIRST_PAUSE", 0.001)
    chat_server.answer = lambda request: bad if len(chat_server.requests) <= 2 else "at last"
    assert (await ask(chat_server)).text == "at last"
    assert len(chat_server.requests) == 3


async def test_after_the_last_retry_the_reason_is_said_without_the_key(chat_server):
    chat_server.answer = lambda request: (429, {"error": {"message": f"too many for {KEY}"}}, AT_ONCE)
    with pytest.raises(Unavailable, match=r"Model 'm' at http://127.* answered 429: too many for …; check") as caught:
        await ask(chat_server, retries=1)
    assert len(chat_server.requests) == 2
    assert pickle.loads(pickle.dumps(caught.value)).message == caught.value.message


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_not_tried_again_and_never_shown(chat_server, status):
    chat_server.answer = lambda request: (status, {"error": {"message": f"bad key {KEY}"}})
    with pytest.raises(Unauthenticated, match="refuses the key") as caught:
        await ask(chat_server)
    assert KEY not in caught.value.message
    assert len(chat_server.requests) == 1


@pytest.mark.parametrize(("status", "kind"), [(400, InvalidInput), (422, InvalidInput), (404, Unavailable), (302, Unavailable)])
async def test_what_will_not_pass_is_not_tried_again(chat_server, status, kind):
    chat_server.answer = lambda request: (status, {"error": "no"}, {"Location": "http://127.0.0.1:1/elsewhere"})
    with pytest.raises(kind, match=str(status)):
        await ask(chat_server)
    assert len(chat_server.requests) == 1


async def test_a_slow_server_and_a_dead_one_are_named(chat_server):
    chat_server.slow = 1.0
    with pytest.raises(Unavailable, match=r"did not answer within 0.1 s"):
        await ask(chat_server, retries=0, timeout=0.1)
    chat_server.close()
    with pytest.raises(Unavailable, match="cannot be reached"):
        await ask(chat_server, retries=0)


async def test_no_more_requests_at_once_than_allowed(chat_server):
    chat_server.slow = 0.02
    async with ChatClient(chat_server.endpoint, "m", concurrency=3) as client:
        answers = await asyncio.gather(*(client.ask(ASKED) for _ in range(12)))
    assert len(answers) == len(chat_server.requests) == 12
    assert 1 < chat_server.most_at_once <= 3


def test_the_key_is_in_no_repr_and_a_broken_one_is_refused_unseen():
    assert KEY not in repr(ChatClient("http://localhost:1/v1", "m", KEY)) + str(ChatClient("http://localhost:1", "m", KEY))
    with pytest.raises(InvalidInput, match="has characters that no key has") as caught:
        ChatClient("http://localhost:1", "m", f"{KEY}\nX: y")
    assert KEY not in caught.value.message


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://host:8000", "http://host:8000/v1"),
        ("https://host/v1/", "https://host/v1"),
        ("https://host/openai/v1/chat/completions", "https://host/openai/v1"),
    ],
)
def test_endpoints_in_the_forms_people_write(given, kept):
    assert checked_endpoint(given) == kept


@pytest.mark.parametrize("given", ["host:8000", "ftp://host", "http://", "http://[::1", "http://host:port"])
def test_what_is_no_endpoint_is_refused(given):
    with pytest.raises(InvalidInput, match="is no http"):
        checked_endpoint(given)


def test_a_password_in_an_endpoint_is_refused_unseen():
    with pytest.raises(InvalidInput, match="Endpoint at host carries") as caught:
        checked_endpoint("http://user:" + KEY + "@host/v1")
    assert KEY not in caught.value.message


def test_pauses_grow_and_follow_the_server_within_reason():
    assert 0.25 <= _pause(0, None) <= 0.5
    assert 2.0 <= _pause(3, None) <= 4.0
    assert _pause(0, 7.0) == 7.0
    assert _pause(0, 86_400.0) == LONGEST_PAUSE
    assert (_retry_after("3"), _retry_after("nan"), _retry_after("soon"), _retry_after(None)) == (3.0, 0.0, None, None)
    assert _retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == 0.0
