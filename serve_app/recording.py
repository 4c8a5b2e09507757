"""Finished turns into the catalog: all that wait go in one transaction, off the event loop."""

import asyncio
import logging

from cluster.catalog import Catalog, conversations, signals
from cluster.domain.conversations import Turn
from cluster.errors import TreadleError
from serve_app.validator import signals_of

log = logging.getLogger(__name__)
MOST_AT_ONCE = 64


class Recorder:
    """One writer per process; callers wait until their turn is committed."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._waiting: asyncio.Queue[tuple[Turn, asyncio.Future[bool]]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def record(self, turn: Turn) -> bool:
        """Whether the turn is committed. An answer is given even when the catalog cannot be written: then it is logged here only."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_on())
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((turn, done))
        return await done

    async def _write_on(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < MOST_AT_ONCE and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            kept = True
            try:
                await asyncio.to_thread(self._write, [turn for turn, _ in batch])
            except TreadleError as error:
                kept = False
                log.error("%d turns were answered and not recorded: %s", len(batch), error.message)
            for _, done in batch:
                if not done.done():
                    done.set_result(kept)

    def _write(self, turns: list[Turn]) -> None:
        with self._catalog.transaction() as work:
            conversations.record(work, turns)
            signals.record(work, [signal for turn in turns for signal in signals_of(turn)])
