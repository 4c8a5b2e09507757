"""The Engine deployment as an ``Engine``: over gRPC, and past the death of a replica.

Deltas come over gRPC and not through the object store: twice the throughput. When the replica that writes an answer dies, or the vLLM
process under it, another one writes it again. What the client has already got of it is left out, where the second writing is sure to
begin like the first: at temperature 0 or with a seed.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from cluster.domain.base import new_id
from cluster.errors import TreadleError, Unavailable
from serve_app.engine import Delta, EngineLost, EngineState, GenerationRequest, ToolCalls

log = logging.getLogger(__name__)
PATIENCE_SECONDS = 90.0
"""How long an answer may wait for an engine that lives: the time that a new one needs to start."""
PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0)


class RemoteEngine:
    """``handle`` is the Engine deployment's."""

    def __init__(self, handle: DeploymentHandle[Any], patience: float = PATIENCE_SECONDS) -> None:
        self._generate = handle.options(stream=True, _by_reference=False).generate
        self._load = handle.options(_by_reference=False).load
        self._tool_calls, self._state = handle.tool_calls, handle.state
        self._patience = patience

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        """See ``Engine.generate``. Raises Unavailable when no engine came back in time, or the answer cannot be taken up again."""
        given = Given()
        until = time.monotonic() + self._patience
        attempt = 0
        while True:
            try:
                async with aclosing(self._written(request if attempt == 0 else replace(request, id=new_id("gen")))) as deltas:
                    async for delta in deltas:
                        rest = given.rest(delta)
                        if rest is not None:
                            yield rest
                return
            except (RayActorError, EngineLost) as error:
                if given.text and not repeats(request):
                    raise Unavailable("The engine that wrote this answer died; ask again.") from None
                if time.monotonic() > until:
                    raise Unavailable("No engine answers; see `treadle status`, and ask again later.") from None
                log.warning("an engine died under an answer, which is written again: %s", type(error).__name__)
                given.begin_again()
                await asyncio.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
                attempt += 1

    async def _written(self, request: GenerationRequest) -> AsyncGenerator[Delta]:
        response: Any = self._generate.remote(request)
        finished = False
        try:
            async for delta in response:
                if isinstance(delta, TreadleError):
                    finished = True
                    raise delta
                finished = delta.finish_reason is not None
                yield delta
            finished = True
        finally:
            if not finished:
                # Whoever is cancelled here may be cancelled again at every await; the giving up goes on.
                await asyncio.shield(_kept(asyncio.ensure_future(_given_up(response))))

    async def load(self, adapter: str) -> None:
        """See ``Engine.load``."""
        error = await self._living(lambda: self._load.remote(adapter))
        if error is not None:
            raise error

    async def tool_calls(self, text: str, tools: Sequence[dict[str, Any]]) -> ToolCalls:
        """See ``Engine.tool_calls``."""
        found = await self._living(lambda: self._tool_calls.remote(text, list(tools)))
        if isinstance(found, TreadleError):
            raise found
        return ToolCalls(*found)

    async def state(self) -> EngineState:
        """See ``Engine.state``."""
        return EngineState(*await self._living(self._state.remote))

    async def _living(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        for pause in PAUSES:
            try:
                return await ask()
            except RayActorError:
                await asyncio.sleep(pause)
        raise Unavailable("No engine answers; see `treadle status`, and ask again later.")


_giving_up: set["asyncio.Future[None]"] = set()


def _kept(task: "asyncio.Future[None]") -> "asyncio.Future[None]":
    """Held until it is done: the event loop itself does not hold its tasks."""
    _giving_up.add(task)
    task.add_done_callback(_giving_up.discard)
    return task


async def _given_up(response: Any) -> None:
    """Serve ends nothing when it is told to between a call's assignment to a replica and the first look at what came of it: the
    replica would write to the end for nobody. So this looks once more, and tells it then."""
    looking = asyncio.ensure_future(anext(response, None))
    await asyncio.sleep(0)
    response.cancel()
    await asyncio.gather(looking, return_exceptions=True)


def repeats(request: GenerationRequest) -> bool:
    """Whether a second writing begins like the first. Log-probabilities stand at places of the first, so those requests do not."""
    asked = request.extra or {}
    return (request.temperature == 0 or request.seed is not None) and "logprobs" not in asked


class Given:
    """What the client has of an answer, and how much of it the present writing has come to."""

    def __init__(self) -> None:
        self.text = ""
        self._tokens = 0
        self._again, self._again_tokens = "", 0

    def begin_again(self) -> None:
        """A new writing starts from nothing."""
        self._again, self._again_tokens = "", 0

    def rest(self, delta: Delta) -> Delta | None:
        """What of the delta is new to the client; None when nothing is. Raises Unavailable when the writing went another way."""
        self._again += delta.text
        self._again_tokens += delta.tokens
        if not self._again.startswith(self.text) and not self.text.startswith(self._again):
            raise Unavailable("The engine that wrote this answer died, and another one went on differently; ask again.")
        if delta.finish_reason is not None and len(self._again) < len(self.text):
            raise Unavailable("The engine that wrote this answer died, and another one ended it earlier; ask again.")
        new = self._again[len(self.text) :]
        if not new and delta.finish_reason is None and self._again_tokens <= self._tokens:
            return None
        tokens = max(0, self._again_tokens - self._tokens)
        self.text, self._tokens = self._again if new else self.text, max(self._tokens, self._again_tokens)
        return delta._replace(text=new, tokens=tokens)
