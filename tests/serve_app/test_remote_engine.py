"""Past the death of an engine: the handle is played, the deaths are Ray's own errors. The real thing dies in tests/flow."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError, RayActorError

from cluster.errors import InvalidInput, Unavailable
from serve_app.engine import Delta, EngineLost, GenerationRequest
from serve_app.remote_engine import RemoteEngine

WORDS = ("a", " b", " c", " d")
Item = Delta | Exception


class Stream:
    """Like Serve's, it is ended by ``cancel`` only where somebody has looked at it, even if the looking was broken off."""

    def __init__(self, items: list[Item]) -> None:
        self._items, self._looked = iter(items), False
        self.assigned = asyncio.get_running_loop().create_future()
        self.ended = False

    def cancel(self) -> None:
        self.assigned.cancel()
        self.ended = self.assigned.cancelled() or self._looked

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        await self.assigned
        self._looked = True
        item = next(self._items, None)
        if item is None:
            raise StopAsyncIteration
        if isinstance(item, RayActorError):
            raise item
        return item


class Handle:
    """Gives out one list of items after another."""

    def __init__(self, *writings: list[Item]) -> None:
        self._writings = list(writings)
        self.asked: list[GenerationRequest] = []
        self.streams: list[Stream] = []
        self.slow = False
        nothing: Callable[..., Any] = lambda *_: None  # noqa: E731
        self.generate = SimpleNamespace(remote=self._write)
        self.load = self.tool_calls = self.state = SimpleNamespace(remote=nothing)

    def options(self, **_: Any) -> "Handle":
        return self

    def _write(self, request: GenerationRequest) -> Stream:
        self.asked.append(request)
        stream = Stream(self._writings.pop(0) if len(self._writings) > 1 else self._writings[0])
        if not self.slow:
            stream.assigned.set_result(None)
        self.streams.append(stream)
        return stream


def whole(words: tuple[str, ...] = WORDS) -> list[Item]:
    return [Delta(word, 1, "stop" if word == words[-1] else None) for word in words]


def dead() -> RayActorError:
    return ActorUnavailableError("gone", b"0" * 16)


def engine(*writings: list[Item], patience: float = 60.0) -> tuple[RemoteEngine, Handle]:
    handle = Handle(*writings)
    return RemoteEngine(handle, patience), handle  # type: ignore[arg-type]


def request(**given: Any) -> GenerationRequest:
    return GenerationRequest(id="gen-1", prompt_ids=[1], **given)


@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("death", [dead(), EngineLost("dead")])
async def test_an_answer_is_taken_up_where_it_broke_off(after: int, death: Exception) -> None:
    asked, handle = engine([*whole()[:after], death], whole())
    deltas = [delta async for delta in asked.generate(request())]
    assert "".join(delta.text for delta in deltas) == "a b c d"
    assert sum(delta.tokens for delta in deltas) == 4
    assert [delta.finish_reason for delta in deltas] == [None] * (len(deltas) - 1) + ["stop"]
    assert handle.asked[0].id != handle.asked[1].id


async def test_pieces_of_another_size_fit() -> None:
    asked, _ = engine([Delta("a b", 2), dead()], [Delta("a", 1), Delta(" b c", 2), Delta(" d", 1, "stop")])
    deltas = [delta async for delta in asked.generate(request())]
    assert [(delta.text, delta.tokens) for delta in deltas] == [("a b", 2), (" c", 1), (" d", 1)]


async def test_an_answer_by_chance_is_not_mixed_from_two() -> None:
    asked, _ = engine([*whole()[:2], dead()], whole())
    with pytest.raises(Unavailable, match="died; ask again"):
        _ = [delta async for delta in asked.generate(request(temperature=0.7))]
    seeded, _ = engine([*whole()[:2], dead()], whole())
    assert "".join([delta.text async for delta in seeded.generate(request(temperature=0.7, seed=1))]) == "a b c d"


@pytest.mark.parametrize("second", [("a", " x"), ("a",)])
async def test_a_second_writing_that_differs_is_said(second: tuple[str, ...]) -> None:
    asked, _ = engine([*whole()[:3], dead()], whole(second))
    with pytest.raises(Unavailable, match="died, and another one"):
        _ = [delta async for delta in asked.generate(request())]


async def test_nobody_waits_for_ever() -> None:
    asked, handle = engine([dead()], patience=0.1)
    with pytest.raises(Unavailable, match="No engine answers"):
        _ = [delta async for delta in asked.generate(request())]
    assert len(handle.asked) > 1


async def test_what_is_wrong_with_a_request_is_not_tried_again() -> None:
    asked, handle = engine([InvalidInput("bad")])
    with pytest.raises(InvalidInput, match="bad"):
        _ = [delta async for delta in asked.generate(request())]
    assert len(handle.asked) == 1


@pytest.mark.parametrize("cancelled", [1, 3])
@pytest.mark.parametrize("assigned", [False, True])
async def test_an_answer_given_up_before_its_first_word_ends(assigned: bool, cancelled: int) -> None:
    """Also at the moment when Serve has found a replica and the reader does not know it yet, and when the reader is cancelled again at
    every await, as in Starlette's streams."""
    asked, handle = engine(whole())
    handle.slow = True
    reading = asyncio.ensure_future(anext(asked.generate(request())))
    await asyncio.sleep(0)
    (stream,) = handle.streams
    if assigned:
        stream.assigned.set_result(None)
    for _ in range(cancelled):
        reading.cancel()
        await asyncio.sleep(0)
    await asyncio.gather(reading, return_exceptions=True)
    assert reading.cancelled()
    for _ in range(5):
        await asyncio.sleep(0)
    assert stream.ended


async def test_an_answer_given_up_in_its_middle_ends() -> None:
    asked, handle = engine(whole())
    writing = asked.generate(request())
    await anext(writing)
    await writing.aclose()  # type: ignore[attr-defined]
    assert handle.streams[0].ended
