"""The adapters that an engine holds: bounded, never taken from who uses them, and broken ones set aside."""

import asyncio
from typing import Any

import pytest

from cluster.errors import IntegrityError, InvalidInput, Unavailable
from serve_app import adapters
from serve_app.adapters import Adapters


class Store:
    """Counts what is loaded and removed; ``broken`` maps names to what loading them meets."""

    def __init__(self, most: int) -> None:
        self.broken: dict[str, Exception] = {}
        self.loads: list[str] = []
        self.removed: list[str] = []
        self.present: set[str] = set()
        self.highest = 0
        self.shelf: Adapters[str] = Adapters(most, self.load, self.remove)

    async def load(self, name: str) -> str:
        self.loads.append(name)
        await asyncio.sleep(0)
        if name in self.broken:
            raise self.broken[name]
        self.present.add(name)
        self.highest = max(self.highest, len(self.present))
        return name.upper()

    async def remove(self, value: str) -> None:
        await asyncio.sleep(0)
        self.removed.append(value.lower())
        self.present.remove(value.lower())

    async def use(self, *names: str) -> None:
        for name in names:
            assert await self.shelf.take(name) == name.upper()
            self.shelf.give(name)


async def test_the_least_recently_used_goes_when_there_is_no_room() -> None:
    store = Store(2)
    await store.use("a", "b", "a", "c")
    assert store.shelf.names == ("a", "c")
    assert store.removed == ["b"]
    await store.use("b")
    assert (store.removed, store.loads) == (["b", "a"], ["a", "b", "c", "b"])


async def test_what_is_in_use_stays_and_who_needs_room_waits_for_it() -> None:
    store = Store(2)
    await store.shelf.take("a")
    await store.shelf.take("a")
    await store.shelf.take("b")
    waits = asyncio.create_task(store.use("c"))
    for name in ("a", "b"):
        await store.use(name)
    await asyncio.sleep(0.02)
    assert not waits.done(), "both places are in use"
    store.shelf.give("a")
    await asyncio.sleep(0.02)
    assert not waits.done(), "it is used twice"
    store.shelf.give("a")
    await asyncio.wait_for(waits, 5)
    assert store.removed == ["a"]


async def test_the_bound_holds_and_everybody_is_served_when_many_want_more_than_there_is_room_for() -> None:
    store = Store(3)

    async def one(number: int) -> None:
        name = "abcdefgh"[number % 8]
        assert await store.shelf.take(name) == name.upper()
        assert name in store.present
        await asyncio.sleep(0.001 * (number % 3))
        assert name in store.present
        store.shelf.give(name)

    await asyncio.wait_for(asyncio.gather(*(one(number) for number in range(200))), 20)
    assert store.highest <= 3
    assert set(store.shelf.names) == store.present


async def test_many_who_want_the_same_load_it_once() -> None:
    store = Store(2)
    await asyncio.gather(*(store.use("a") for _ in range(20)))
    assert store.loads == ["a"]


async def test_a_broken_one_fails_with_its_sentence_and_is_tried_again_when_its_time_is_over(monkeypatch: Any) -> None:
    clock = [100.0]
    monkeypatch.setattr(adapters.time, "monotonic", lambda: clock[0])
    store = Store(2)
    store.broken["a"] = IntegrityError("adapter_model.safetensors has changed.")
    store.broken["b"] = ValueError("shape 3\nmore")
    for _ in range(3):
        with pytest.raises(IntegrityError, match="has changed"):
            await store.use("a")
    with pytest.raises(InvalidInput, match=r"'b' cannot be loaded: ValueError: shape 3\.$"):
        await store.use("b")
    assert store.loads == ["a", "b"], "it is not tried for each request"
    assert store.shelf.quarantined["a"] == "adapter_model.safetensors has changed."
    await store.use("c", "d")
    clock[0] += adapters.FIRST_WAIT_S + 0.1
    with pytest.raises(IntegrityError):
        await store.use("a")
    clock[0] += adapters.FIRST_WAIT_S + 0.1
    del store.broken["a"]
    with pytest.raises(IntegrityError):
        await store.use("a")
    clock[0] += adapters.FIRST_WAIT_S
    await store.use("a")
    assert set(store.shelf.quarantined) == {"b"}


async def test_what_is_away_for_a_moment_is_not_held_against_the_adapter() -> None:
    store = Store(1)
    store.broken["a"] = Unavailable("The catalog cannot be used.")
    for _ in range(2):
        with pytest.raises(Unavailable):
            await store.use("a")
    assert (store.loads, store.shelf.quarantined) == (["a", "a"], {})
    store.broken.clear()
    await store.use("a")


async def test_who_gives_up_waiting_leaves_the_rest_in_order() -> None:
    store = Store(1)
    await store.shelf.take("a")
    waits = [asyncio.create_task(store.use(name)) for name in ("b", "b", "c")]
    await asyncio.sleep(0.01)
    waits[0].cancel()
    waits[2].cancel()
    await asyncio.sleep(0.01)
    store.shelf.give("a")
    await asyncio.wait_for(waits[1], 5)
    await asyncio.wait_for(store.use("a"), 5)
    assert store.highest == 1
