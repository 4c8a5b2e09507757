"""What an engine is: prompt token ids and an adapter's name in, text out. Knows nothing of agents, HTTP or Ray."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from cluster.errors import TreadleError


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One answer to write. ``adapter`` is a release (``agent@version``) or None for the bare base.

    ``stream`` False asks for a single delta with the whole answer, which costs the engine's process less.
    """

    id: str
    prompt_ids: Sequence[int]
    adapter: str | None = None
    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    stream: bool = True


class Delta(NamedTuple):
    """What an answer grew by; ``finish_reason`` ("stop" or "length") stands in the last one only."""

    text: str
    tokens: int
    finish_reason: str | None = None


class Engine(Protocol):
    """Writes answers. Any number of requests, for any adapters, may be under way at once."""

    def generate(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        """The answer as it grows. Ending the iteration early ends the generation. Raises TreadleError before the first delta
        when the adapter cannot be used."""
        ...

    async def load(self, adapter: str) -> None:
        """Make the adapter ready for its first request. Raises TreadleError with the reason when it cannot be used."""
        ...


class ScriptedEngine:
    """An engine without a model: ``script(request)`` is the whole answer, given out word by word. For tests and dry runs.

    ``broken`` maps adapters to the error that loading them meets. ``pause`` is the time between words in seconds.
    """

    def __init__(
        self,
        script: Callable[[GenerationRequest], str],
        broken: dict[str, TreadleError] | None = None,
        pause: float = 0.0,
    ) -> None:
        self._script, self._pause = script, pause
        self.broken = dict(broken or {})
        self.loaded: list[str] = []
        self.running = 0

    async def load(self, adapter: str) -> None:
        if adapter in self.broken:
            raise self.broken[adapter]
        if adapter not in self.loaded:
            self.loaded.append(adapter)

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        if request.adapter is not None:
            await self.load(request.adapter)
        words = self._script(request).split(" ")
        kept = words[: request.max_tokens]
        pieces = [word if number == 0 else f" {word}" for number, word in enumerate(kept)]
        reason = "stop" if len(kept) == len(words) else "length"
        self.running += 1
        try:
            if not request.stream:
                await asyncio.sleep(self._pause * len(pieces))
                yield Delta("".join(pieces), len(pieces), reason)
                return
            for number, piece in enumerate(pieces, 1):
                await asyncio.sleep(self._pause)
                yield Delta(piece, 1, reason if number == len(pieces) else None)
        finally:
            self.running -= 1
