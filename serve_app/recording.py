"""Finished turns and the guard's events into the catalog: all that wait go in one transaction, off the event loop."""

import asyncio
import logging

from cluster.catalog import Catalog, conversations, experiments, guard_events, signals
from cluster.domain.conversations import Turn
from cluster.domain.guard_events import GuardEvent
from cluster.errors import TreadleError
from serve_app.validator import signals_of

log = logging.getLogger(__name__)
MOST_AT_ONCE = 64
PAUSES = (0.1, 0.3, 0.6, 1.0, 2.0)
"""Seconds between tries to write."""
MOST_EVENTS = 4096
"""Events that wait at most: a flood of attacks while the catalog stands still must not fill the memory."""


class Recorder:
    """One writer per process; callers wait until their turn is committed, and for events nobody waits."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._waiting: asyncio.Queue[tuple[Turn, asyncio.Future[bool]] | None] = asyncio.Queue()
        self._events: list[GuardEvent] = []
        self._task: asyncio.Task[None] | None = None
        self._away = False

    async def record(self, turn: Turn) -> bool:
        """Whether the turn is committed. An answer is given even when the catalog cannot be written: then it is logged here only."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((turn, done))
        self._wake()
        return await done

    def note(self, event: GuardEvent) -> None:
        """Keep an event with the next turns. Never waits; what the catalog does not take is logged and lost."""
        if len(self._events) >= MOST_EVENTS:
            log.error("an event of the guard was not recorded: %d wait already", MOST_EVENTS)
            return
        self._events.append(event)
        if self._waiting.empty():
            self._waiting.put_nowait(None)
        self._wake()

    async def drained(self) -> None:
        """Wait until everything that waits was written or given up."""
        await self._waiting.join()

    def _wake(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_on())

    async def _write_on(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < MOST_AT_ONCE and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            turns = [one for one in batch if one is not None]
            events, self._events = self._events, []
            kept = await self._kept([turn for turn, _ in turns], events)
            for _, done in turns:
                if not done.done():
                    done.set_result(kept)
            for _ in batch:
                self._waiting.task_done()

    async def _kept(self, turns: list[Turn], events: list[GuardEvent]) -> bool:
        """Written, if need be in another try: a database that restarts is back soon. One that stays away is not waited for again."""
        pauses = [] if self._away else list(PAUSES)
        while True:
            try:
                await asyncio.to_thread(self._write, turns, events)
            except TreadleError as error:
                if pauses:
                    await asyncio.sleep(pauses.pop(0))
                    continue
                self._away = True
                log.error("%d turns and %d guard events were not recorded: %s", len(turns), len(events), error.message)
                return False
            self._away = False
            return True

    def _write(self, turns: list[Turn], events: list[GuardEvent]) -> None:
        with self._catalog.transaction() as work:
            conversations.record(work, turns)
            experiments.record(work, turns)
            signals.record(work, [signal for turn in turns for signal in signals_of(turn)])
            guard_events.record(work, events)
