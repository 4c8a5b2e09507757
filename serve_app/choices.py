"""Several generations at once, each an answer of its own: ``n`` of chat, ``n`` and many prompts of completions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from serve_app.engine import Delta, TokenLogprob


@dataclass(slots=True)
class Choice:
    """One answer as it grows."""

    text: str = ""
    tokens: int = 0
    finish_reason: str = "stop"
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def take(self, delta: Delta) -> None:
        """Grow by a delta."""
        self.text += delta.text
        self.tokens += delta.tokens
        self.finish_reason = delta.finish_reason or self.finish_reason
        if delta.logprobs:
            self.logprobs.extend(delta.logprobs)


async def together(streams: Sequence[AsyncIterator[Delta]]) -> AsyncIterator[tuple[int, Delta]]:
    """The deltas of all streams as they come, each with its stream's number. When one fails or the iteration ends early, all end."""
    arrived: asyncio.Queue[tuple[int, Delta] | asyncio.Task[None]] = asyncio.Queue()

    async def follow(number: int, stream: AsyncIterator[Delta]) -> None:
        async for delta in stream:
            arrived.put_nowait((number, delta))

    tasks = [asyncio.create_task(follow(number, stream)) for number, stream in enumerate(streams)]
    for task in tasks:
        task.add_done_callback(arrived.put_nowait)
    left = len(tasks)
    try:
        while left:
            item = await arrived.get()
            if isinstance(item, asyncio.Task):
                item.result()
                left -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):  # the first error was raised above
                await task


async def whole(streams: Sequence[AsyncIterator[Delta]]) -> list[Choice]:
    """All of them, to their ends."""
    choices = [Choice() for _ in streams]
    async for number, delta in together(streams):
        choices[number].take(delta)
    return choices
