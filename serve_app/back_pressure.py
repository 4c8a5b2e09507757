"""How many answers one Router replica has under way: past a bound a request is refused at once and told when to come back, because a
queue that grows without end makes everybody wait for answers that nobody waits for any more."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from cluster.errors import TooMany
from serve_app.engine import Delta, Engine, EngineState, GenerationRequest, ToolCalls

SMOOTHING = 0.1
MOST_SECONDS = 60.0


class Room:
    """For ``most`` answers at once, whichever engines write them."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.running = 0
        self._seconds = 1.0

    def admit(self) -> None:
        """Raises TooMany when there is no room for one more; says in how many seconds an answer under way will likely have ended."""
        if self.running >= self.most:
            raise TooMany.until(
                min(MOST_SECONDS, self._seconds),
                f"{self.running} answers are being written, as many as router.most_at_once allows; ask again in a moment.",
            )

    def enter(self) -> float:
        """One more answer is under way; gives what ``leave`` has to be told."""
        self.running += 1
        return time.monotonic()

    def leave(self, entered: float) -> None:
        """It has ended."""
        self.running -= 1
        self._seconds += SMOOTHING * (time.monotonic() - entered - self._seconds)


class Bounded:
    """An engine whose answers take their place in a room."""

    def __init__(self, engine: Engine, room: Room) -> None:
        self._engine, self._room = engine, room

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        """See ``Engine.generate``."""
        entered = self._room.enter()
        deltas = self._engine.generate(request)
        try:
            async for delta in deltas:
                yield delta
        finally:
            self._room.leave(entered)
            close = getattr(deltas, "aclose", None)
            if close is not None:
                await close()

    async def load(self, adapter: str) -> None:
        """See ``Engine.load``."""
        await self._engine.load(adapter)

    async def tool_calls(self, text: str, tools: Sequence[dict[str, Any]]) -> ToolCalls:
        """See ``Engine.tool_calls``."""
        return await self._engine.tool_calls(text, tools)

    async def state(self) -> EngineState:
        """See ``Engine.state``."""
        return await self._engine.state()
