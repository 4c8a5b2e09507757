import asyncio

import pytest

from cluster.errors import TooMany
from serve_app.back_pressure import Bounded, Room
from serve_app.engine import GenerationRequest, ScriptedEngine
from tests.serve_app.conftest import House


def request(name: str) -> GenerationRequest:
    return GenerationRequest(id=name, prompt_ids=[1])


async def test_who_asks_beyond_the_bound_is_refused_and_told_when_to_come_back() -> None:
    room = Room(most=2)
    engines = [Bounded(ScriptedEngine(lambda _: "one two", pause=0.05), room) for _ in range(2)]
    running = [engine.generate(request(str(number))) for number, engine in enumerate(engines)]
    for one in running:
        await anext(one)
    with pytest.raises(TooMany, match=r"2 answers are being written.*router\.most_at_once") as refused:
        room.admit()
    assert 1 <= refused.value.retry_after <= 60
    await running[0].aclose()  # its client went away
    room.admit()
    assert [delta.text async for delta in running[1]] == [" two"]
    assert room.running == 0


async def test_it_is_said_over_http_and_passes(house: House) -> None:
    house.engine._pause = 0.2
    house.gateway.bases.room.most = 1
    async with house.client() as client:
        body = {"model": "linux", "messages": [{"role": "user", "content": "list files"}]}
        first = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        await asyncio.sleep(0.3)
        refused = await client.post("/v1/chat/completions", json=body)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert (await first).status_code == 200
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
