"""What is live follows the catalog: hot swaps, broken champions, a catalog that cannot be read."""

import asyncio
from contextlib import contextmanager
from typing import Any

import pytest

from cluster.catalog import agents, releases
from cluster.domain.agents import Agent
from cluster.domain.releases import CHAMPION
from cluster.errors import IntegrityError, Unavailable
from serve_app import releases as live
from tests.serve_app.conftest import House, chat


async def answered_by(house: House, model: str) -> Any:
    async with house.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat(model))
    return answer.json()["treadle"]["release"] if answer.status_code == 200 else answer.status_code


async def test_a_promotion_is_followed_warmed_and_rolled_back(house: House) -> None:
    assert await answered_by(house, "linux") == "linux@base"
    house.release("linux", "0.1.0")
    await house.gateway.following.look()
    assert house.engine.loaded == ["linux@0.1.0"]
    assert await answered_by(house, "linux") == "linux@0.1.0"
    house.release("linux", "0.2.0")
    assert await answered_by(house, "linux") == "linux@0.1.0"
    await house.gateway.following.look()
    assert await answered_by(house, "linux") == "linux@0.2.0"
    with house.catalog.transaction() as work:
        releases.move_alias(work, "linux", CHAMPION, "0.1.0", "back")
    await house.gateway.following.look()
    assert await answered_by(house, "linux") == "linux@0.1.0"
    assert await answered_by(house, "linux@0.2.0") == "linux@0.2.0"


async def test_an_answer_says_the_digest_of_what_was_judged_and_retired_releases_are_not_listed(house: House) -> None:
    one, two = house.release("linux", "0.1.0"), house.release("linux", "0.2.0")
    await house.gateway.following.look()
    async with house.client() as client:
        for made in (one, two):
            answer = await client.post("/v1/chat/completions", json=chat(made.ref))
            assert answer.json()["treadle"]["digest"] == made.digest
        bare = await client.post("/v1/chat/completions", json=chat("linux@base"))
        assert bare.json()["treadle"]["digest"] is None
        with house.catalog.transaction() as work:
            releases.retire(work, one, "too slow")
        names = {model["id"] for model in (await client.get("/v1/models")).json()["data"]}
    assert two.ref in names
    assert one.ref not in names
    assert await answered_by(house, one.ref) == one.ref, "who names it still gets it"


async def test_records_of_releases_that_are_asked_for_by_version_are_bounded(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_KNOWN", 2)
    refs = [house.release("linux", f"0.{number}.0", champion=False).ref for number in range(1, 5)]
    for ref in [refs[0], refs[1], refs[0], *refs[2:], refs[0], refs[3]]:
        assert await answered_by(house, ref) == ref
    assert list(house.gateway.live._known) == [refs[0], refs[3]], "the least recently asked for are read again"


async def test_a_turn_that_has_begun_ends_on_the_release_it_began_with(house: House) -> None:
    house.engine._pause = 0.05
    house.release("linux", "0.1.0")
    await house.gateway.following.look()
    under_way = asyncio.create_task(answered_by(house, "linux"))
    while not house.engine.running:
        await asyncio.sleep(0.005)
    house.release("linux", "0.2.0")
    await house.gateway.following.look()
    assert await answered_by(house, "linux") == "linux@0.2.0"
    assert await under_way == "linux@0.1.0"


async def test_the_old_champion_stays_when_the_new_one_cannot_be_loaded(house: House) -> None:
    house.release("linux", "0.1.0")
    await house.gateway.following.look()
    house.engine.broken["linux@0.2.0"] = IntegrityError("adapter_model.safetensors has changed.")
    house.release("linux", "0.2.0")
    house.release("python", "0.1.0")
    await house.gateway.following.look()
    assert await answered_by(house, "linux") == "linux@0.1.0"
    assert await answered_by(house, "python") == "python@0.1.0"
    async with house.client(role="admin") as client:
        assert (await client.get("/health/detailed")).json()["problems"] == {"linux": "adapter_model.safetensors has changed."}


async def test_an_agent_whose_only_champion_is_broken_is_503_and_not_quietly_the_base(house: House) -> None:
    with house.catalog.transaction() as work:
        agents.save(work, Agent(name="late"))
    house.engine.broken["late@0.1.0"] = IntegrityError("adapter_model.safetensors has changed.")
    house.release("late", "0.1.0")
    await house.gateway.following.look()
    assert await answered_by(house, "late") == 503
    assert await answered_by(house, "late@base") == "late@base"


async def test_what_is_live_stays_live_while_the_catalog_cannot_be_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.release("linux", "0.1.0")
    await house.gateway.following.look()

    @contextmanager
    def locked() -> Any:
        raise Unavailable("The catalog cannot be used: database is locked.")
        yield

    key = house.key("ada")
    async with house.client(key=key) as client:
        await client.get("/v1/models")
        with monkeypatch.context() as patch:
            patch.setattr(house.gateway.following._catalog, "reading", locked)
            follower = asyncio.create_task(house.gateway.following.follow(0.01))
            await asyncio.sleep(0.1)
            body = chat("linux", treadle={"record": False})
            assert (await client.post("/v1/chat/completions", json=body)).json()["treadle"]["release"] == "linux@0.1.0"
            assert "catalog" in house.gateway.live.problems
        house.release("linux", "0.2.0")
        await asyncio.sleep(0.5)
        follower.cancel()
    assert await answered_by(house, "linux") == "linux@0.2.0"
    assert house.gateway.live.problems == {}


async def test_a_new_agent_answers_without_a_restart_and_a_removed_one_does_not(house: House) -> None:
    with house.catalog.transaction() as work:
        agents.save(work, Agent(name="cook"))
        agents.remove(work, "python")
    await house.gateway.following.look()
    assert await answered_by(house, "cook") == "cook@base"
    assert await answered_by(house, "python") == 404
