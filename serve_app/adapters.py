"""Adapters that an engine holds: at most so many, the least recently used going first, and broken ones set aside. Knows nothing of vLLM.

An adapter in use is never taken out. One that cannot be loaded fails the requests for it with the same sentence until its time is over,
without being tried again for each; the time doubles from ``FIRST_WAIT_S`` to ``LONGEST_WAIT_S``.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from cluster.errors import InvalidInput, TreadleError, Unavailable, one_sentence

log = logging.getLogger(__name__)
FIRST_WAIT_S, LONGEST_WAIT_S = 10.0, 600.0
T = TypeVar("T")


@dataclass(slots=True)
class _Held(Generic[T]):
    value: T
    users: int = 0


@dataclass(slots=True)
class _Broken:
    error: TreadleError
    until: float
    wait: float


class Adapters(Generic[T]):
    """``load(name)`` brings one in and ``remove(value)`` takes it out. To be used from one event loop."""

    def __init__(self, most: int, load: Callable[[str], Awaitable[T]], remove: Callable[[T], Awaitable[None]]) -> None:
        self.most = most
        self._load, self._remove = load, remove
        self._held: dict[str, _Held[T]] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._waiting: Counter[str] = Counter()
        self._broken: dict[str, _Broken] = {}
        self._coming = 0
        self._room, self._given = asyncio.Lock(), asyncio.Event()

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are held, the least recently used first."""
        return tuple(self._held)

    @property
    def quarantined(self) -> dict[str, str]:
        """Why each one that is set aside cannot be used."""
        return {name: one.error.message for name, one in self._broken.items()}

    async def take(self, name: str) -> T:
        """The adapter, held until ``give``. Raises what loading it met; Unavailable never lasts."""
        held = self._held.get(name)
        if held is None:
            held = await self._brought(name)
        held.users += 1
        if len(self._held) > 1:
            self._held[name] = self._held.pop(name)
        return held.value

    def give(self, name: str) -> None:
        """One use is over."""
        held = self._held[name]
        held.users -= 1
        if held.users == 0:
            self._given.set()

    async def _brought(self, name: str) -> _Held[T]:
        self._waiting[name] += 1
        try:
            while name not in self._held:
                self._refuse(name)
                if name not in self._loading:
                    self._loading[name] = asyncio.create_task(self._bring(name))
                    self._loading[name].add_done_callback(lambda task: self._loaded(name, task))
                await asyncio.shield(self._loading[name])
            return self._held[name]
        finally:
            self._waiting[name] -= 1
            if not self._waiting[name]:
                del self._waiting[name]
                self._given.set()

    def _loaded(self, name: str, task: "asyncio.Task[None]") -> None:
        self._loading.pop(name, None)
        if not task.cancelled():
            task.exception()  # seen, also when nobody waits any more

    def _refuse(self, name: str) -> None:
        broken = self._broken.get(name)
        if broken is not None and time.monotonic() < broken.until:
            raise type(broken.error)(broken.error.message)

    async def _bring(self, name: str) -> None:
        async with self._room:
            await self._make_room()
            self._coming += 1
        try:
            self._held[name] = _Held(await self._load(name))
        except Unavailable:  # the catalog or the store is away: not the adapter's fault
            raise
        except Exception as error:
            known = error if isinstance(error, TreadleError) else InvalidInput(_sentence(name, error))
            self._set_aside(name, known)
            raise known from None
        finally:
            self._coming -= 1
            self._given.set()
        self._broken.pop(name, None)

    async def _make_room(self) -> None:
        while len(self._held) + self._coming >= self.most:
            oldest = next((name for name, one in self._held.items() if not one.users and name not in self._waiting), None)
            if oldest is None:
                self._given.clear()
                await self._given.wait()
            else:
                await self._remove(self._held.pop(oldest).value)
                log.info("%s went out: it was the least recently used", oldest)

    def _set_aside(self, name: str, error: TreadleError) -> None:
        before = self._broken.get(name)
        wait = FIRST_WAIT_S if before is None else min(2 * before.wait, LONGEST_WAIT_S)
        self._broken[name] = _Broken(error, time.monotonic() + wait, wait)
        log.error("%s is set aside for %.0f s: %s", name, wait, error.message)


def _sentence(name: str, error: Exception) -> str:
    return f"The adapter of release '{name}' cannot be loaded: {one_sentence(error).rstrip('.')}."
