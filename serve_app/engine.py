"""What an engine is: prompt token ids and an adapter's name in, text out. Knows nothing of agents, HTTP or Ray."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from cluster.errors import TreadleError, Unavailable


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One answer to write. ``adapter`` is a release (``agent@version``) or None for the bare base.

    ``stream`` False asks for a single delta with the whole answer, which costs the engine's process less. ``extra`` holds what few
    ask for, by the names of vLLM's SamplingParams (``presence_penalty``, ``top_k``, ``logprobs``, …), with ``structured_outputs`` as a
    mapping (``{"json": schema}`` or ``{"json_object": True}``).
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
    extra: dict[str, Any] | None = None


class EngineLost(Unavailable):
    """The process that writes is dead, and with it everything that it was writing."""


class TokenLogprob(NamedTuple):
    """A token that was written, its natural log-probability, and the likeliest tokens at its place with theirs."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class Delta(NamedTuple):
    """What an answer grew by; ``finish_reason`` ("stop" or "length") stands in the last one only, ``logprobs`` where they were asked
    for."""

    text: str
    tokens: int
    finish_reason: str | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None


class ToolCalls(NamedTuple):
    """An answer taken apart: what is said beside the calls, and the calls as ``(function, arguments as JSON text)``."""

    content: str
    calls: tuple[tuple[str, str], ...]


class EngineState(NamedTuple):
    """``running`` answers being written or waiting, ``written`` those that came to their end since the engine began, the names of the
    ``adapters`` that are loaded, and of those that are ``quarantined``, with the reason."""

    running: int
    written: int
    adapters: tuple[str, ...]
    quarantined: tuple[tuple[str, str], ...] = ()


class Engine(Protocol):
    """Writes answers. Any number of requests, for any adapters, may be under way at once."""

    def generate(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        """The answer as it grows. Ending the iteration early ends the generation. Raises TreadleError before the first delta
        when the adapter cannot be used."""
        ...

    async def load(self, adapter: str) -> None:
        """Make the adapter ready for its first request. Raises TreadleError with the reason when it cannot be used."""
        ...

    async def tool_calls(self, text: str, tools: Sequence[dict[str, Any]]) -> ToolCalls:
        """The calls in an answer, as the base model writes them. An answer without one is all content."""
        ...

    async def state(self) -> EngineState:
        """What the engine is doing now."""
        ...


class ScriptedEngine:
    """An engine without a model: ``script(request)`` is the whole answer, given out word by word. For tests and dry runs.

    A word is a token of probability 1; a call of a tool is one JSON object with ``name`` and ``arguments`` and nothing else. ``broken``
    maps adapters to the error that loading them meets. ``pause`` is the time between words in seconds.
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
        self.running = self.written = 0
        self.asked: list[GenerationRequest] = []

    async def state(self) -> EngineState:
        return EngineState(self.running, self.written, tuple(self.loaded))

    async def tool_calls(self, text: str, tools: Sequence[dict[str, Any]]) -> ToolCalls:
        try:
            said = json.loads(text)
            return ToolCalls("", ((said["name"], json.dumps(said["arguments"])),))
        except (ValueError, KeyError, TypeError):
            return ToolCalls(text, ())

    async def load(self, adapter: str) -> None:
        if adapter in self.broken:
            raise self.broken[adapter]
        if adapter not in self.loaded:
            self.loaded.append(adapter)

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        if request.adapter is not None:
            await self.load(request.adapter)
        self.asked.append(request)
        top = (request.extra or {}).get("logprobs")
        words = self._script(request).split(" ")
        kept = words[: request.max_tokens]
        pieces = [word if number == 0 else f" {word}" for number, word in enumerate(kept)]
        reason = "stop" if len(kept) == len(words) else "length"
        self.running += 1
        try:
            if not request.stream:
                await asyncio.sleep(self._pause * len(pieces))
                self.written += 1
                yield Delta("".join(pieces), len(pieces), reason, _certain(pieces, top))
                return
            for number, piece in enumerate(pieces, 1):
                await asyncio.sleep(self._pause)
                self.written += number == len(pieces)
                yield Delta(piece, 1, reason if number == len(pieces) else None, _certain([piece], top))
        finally:
            self.running -= 1


def _certain(pieces: Sequence[str], top: int | None) -> tuple[TokenLogprob, ...] | None:
    return None if top is None else tuple(TokenLogprob(piece, 0.0, ((piece, 0.0),) if top else ()) for piece in pieces)
