"""Idempotency keys, and clients that go away."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest
import uvicorn

from cluster.catalog import answered_once, conversations, forgotten
from cluster.domain.base import now
from cluster.errors import Unavailable
from serve_app.engine import ScriptedEngine
from serve_app.gateway import build_app
from tests.serve_app.conftest import House, chat, gateway

PATH = "/v1/chat/completions"
KEY = {"Idempotency-Key": "order-17"}


@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_key_gets_the_same_answer_and_one_turn_from_any_replica(house: House, stream: bool) -> None:
    other = gateway(house.settings, ScriptedEngine(lambda _: "something else"))
    await other.following.look()
    headers = {"Authorization": f"Bearer {house.key('ada')}", **KEY}
    first_client = httpx.AsyncClient(transport=httpx.ASGITransport(house.app), base_url="http://a", headers=headers)
    second_client = httpx.AsyncClient(transport=httpx.ASGITransport(build_app(other)), base_url="http://b", headers=headers)
    async with first_client, second_client:
        first = await first_client.post(PATH, json=chat("linux", stream=stream))
        second = await second_client.post(PATH, json=chat("linux", stream=stream))
    await other.close()
    assert first.status_code == second.status_code == 200
    assert first.text == second.text
    assert second.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert second.headers["content-type"] == first.headers["content-type"]
    with house.catalog.reading() as work:
        assert len(conversations.recent(work)) == 1


async def test_a_key_stands_for_one_request_of_one_user(house: House) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        first = await ada.post(PATH, json=chat("linux"), headers=KEY)
        changed = await ada.post(PATH, json=chat("linux", "another question"), headers=KEY)
        bobs = await bob.post(PATH, json=chat("linux"), headers=KEY)
        long = await ada.post(PATH, json=chat("linux"), headers={"Idempotency-Key": "x" * 201})
    assert (first.status_code, changed.status_code, bobs.status_code, long.status_code) == (200, 409, 200, 400)
    assert "order-17" in changed.json()["error"]["message"]
    assert first.json()["treadle"]["turn_id"] != bobs.json()["treadle"]["turn_id"]


async def test_a_request_under_way_is_not_answered_twice(house: House) -> None:
    house.speaks(ScriptedEngine(lambda _: "word " * 20, pause=0.02))
    async with house.client() as client:
        both = await asyncio.gather(*(client.post(PATH, json=chat("linux"), headers=KEY) for _ in range(2)))
        after = await client.post(PATH, json=chat("linux"), headers=KEY)
    assert sorted(answer.status_code for answer in both) == [200, 409]
    assert after.status_code == 200


async def test_what_failed_and_what_expired_is_made_anew(house: House) -> None:
    house.release("linux", "0.1.0", champion=False)
    house.engine.broken["linux@0.1.0"] = Unavailable("not now")
    async with house.client() as client:
        for stream in (False, True):
            body = chat("linux@0.1.0", stream=stream)
            headers = {"Idempotency-Key": f"again-{stream}"}
            house.engine.broken["linux@0.1.0"] = Unavailable("not now")
            assert (await client.post(PATH, json=body, headers=headers)).status_code == 503
            house.engine.broken.clear()
            assert (await client.post(PATH, json=body, headers=headers)).status_code == 200
    with house.catalog.transaction() as work:
        past = now() - timedelta(seconds=1)
        assert answered_once.claim(work, "ada", "old", "digest", past) is None
        assert answered_once.claim(work, "ada", "old", "other", now() + timedelta(minutes=1)) is None
        assert answered_once.claim(work, "ada", "old", "other", now()).digest == "other"
        forgotten.delete_user(work, "ada")
        assert answered_once.claim(work, "ada", "old", "other", past) is None


async def served(house: House) -> tuple[uvicorn.Server, asyncio.Task[None], str]:
    """The application behind a real socket: only there a client can hang up."""
    server = uvicorn.Server(uvicorn.Config(house.app, port=0, log_level="warning", lifespan="off"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    return server, task, f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, chat("linux")),
        (PATH, chat("linux", n=3)),
        (PATH, chat("linux", stream=True)),
        (PATH, chat("linux", stream=True, n=3)),
        ("/v1/completions", {"model": "starter", "prompt": ["a", "b"], "max_tokens": 500}),
        ("/v1/completions", {"model": "starter", "prompt": ["a", "b"], "max_tokens": 500, "stream": True}),
        ("/api/chat", {"model": "linux", "messages": [{"role": "user", "content": "x"}], "stream": False}),
        ("/api/generate", {"model": "linux", "prompt": "x"}),
    ],
)
async def test_generation_ends_when_its_client_goes_away(house: House, path: str, body: dict[str, Any]) -> None:
    engine = house.speaks(ScriptedEngine(lambda _: "word " * 600, pause=0.1))
    server, task, url = await served(house)
    try:
        headers = {"Authorization": f"Bearer {house.key('ada')}"}
        async with httpx.AsyncClient(base_url=url, headers=headers) as client:
            asking = asyncio.create_task(client.post(path, json=body))
            while not engine.running:
                await asyncio.sleep(0.01)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        for _ in range(500):
            if not engine.running:
                break
            await asyncio.sleep(0.02)
        assert (engine.running, engine.written) == (0, 0)
    finally:
        server.should_exit = True
        await task
