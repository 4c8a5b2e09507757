"""A question and its answer: guard → route → retrieve → render → generate → validate → record.

System messages of the client are not used when an agent answers: its card's prompt is what was trained and evaluated. They are used
with the bare base model, which has no card.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.domain.agents import GenerationSettings
from cluster.domain.base import new_id
from cluster.domain.conversations import Citation, Message, Route, Turn
from cluster.domain.prompts import prompt_ids, render
from cluster.domain.validation import Validation
from cluster.embedding import Embedder
from cluster.errors import InvalidInput, Unavailable
from serve_app.engine import Delta, Engine, GenerationRequest
from serve_app.guard import GuardPost
from serve_app.recording import Recorder
from serve_app.releases import LiveReleases, Speaker
from serve_app.retriever import Retriever
from serve_app.router import RouterHead, default_route
from serve_app.validator import cited, validate

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Ask:
    """One question. ``overrides`` are the generation settings that the client gave; ``messages`` end with the user's."""

    user: str
    model: str
    messages: tuple[Message, ...]
    conversation_id: str | None = None
    retrieve: bool = True
    record: bool = True
    stream: bool = False
    seed: int | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def question(self) -> str:
        return self.messages[-1].content

    @property
    def history(self) -> tuple[Message, ...]:
        return tuple(message for message in self.messages[:-1] if message.role != "system")


class Answering:
    """The parts that answer, put together. ``head`` is the router head in use (None: the default agent answers ``auto``)."""

    def __init__(
        self,
        *,
        engine: Engine,
        live: LiveReleases,
        guard: GuardPost,
        retriever: Retriever,
        recorder: Recorder,
        embedder: Embedder,
        tokenizer: Any,
        threads: ThreadPoolExecutor,
        base_name: str,
        max_model_len: int,
    ) -> None:
        self.engine, self.live, self.retriever, self.base_name = engine, live, retriever, base_name
        self.head: RouterHead | None = None
        self.guard = guard
        self._recorder, self._embedder, self._tokenizer = recorder, embedder, tokenizer
        self._threads, self._max_model_len = threads, max_model_len

    async def begin(self, ask: Ask) -> "Answer":
        """Everything up to the first piece of the answer. Raises the TreadleError that the client shall see."""
        start = time.perf_counter()
        flags = await self.guard.question(ask.user, [message.content for message in ask.messages if message.role != "assistant"])
        timings: dict[str, float] = {}
        vector: NDArray[np.float32] | None = None
        speaker: Speaker | None = None
        passages: tuple[Citation, ...] = ()
        if ask.model == self.base_name:
            route = Route(agent=self.base_name)
            messages = list(ask.messages)
            generation = GenerationSettings()
        else:
            speaker, route, vector = await self._speaker(ask)
            timings["route"] = time.perf_counter() - start
            passages, found = self.guard.passages(ask.user, await self._passages(ask, speaker, vector))
            flags += found
            timings["retrieve"] = time.perf_counter() - start - timings["route"]
            messages = render(speaker.card.prompt, ask.question, ask.history, [passage.text for passage in passages])
            generation = speaker.card.generation
        chosen = GenerationSettings.model_validate({**generation.model_dump(), **ask.overrides})
        ids = prompt_ids(self._tokenizer, messages)
        room = self._max_model_len - len(ids)
        if room < 1:
            raise InvalidInput(
                f"The prompt is {len(ids)} tokens long and the model takes {self._max_model_len - 1}; send a shorter history or question."
            )
        request = GenerationRequest(
            id=new_id("gen"),
            prompt_ids=ids,
            adapter=speaker.adapter if speaker else None,
            max_tokens=min(chosen.max_tokens, room),
            temperature=chosen.temperature,
            top_p=chosen.top_p,
            stop=chosen.stop,
            seed=ask.seed,
            stream=ask.stream,
        )
        answer = Answer(ask, speaker, route, passages, flags, len(ids), timings, start, self._recorder, self.guard)
        await answer.open(self.engine.generate(request))
        return answer

    async def _speaker(self, ask: Ask) -> tuple[Speaker, Route, NDArray[np.float32] | None]:
        if ask.model != AUTO:
            speaker = await self.live.speaker(ask.model)
            return speaker, Route(agent=speaker.card.name), None
        default = self.live.default
        if default is None:
            raise Unavailable("There is no agent yet to answer 'auto'; create one with: treadle agents create")
        if self.head is None:
            return self.live.champion(default.name), default_route(default.name), None
        vector = await self._embed(ask.question)
        route = self.head.route(vector, ask.question, set(self.live.agents), default.name)
        return self.live.champion(route.agent), route, vector

    async def _passages(self, ask: Ask, speaker: Speaker, vector: NDArray[np.float32] | None) -> tuple[Citation, ...]:
        if not ask.retrieve or not speaker.indexes:
            return ()
        if vector is None:
            vector = await self._embed(ask.question)
        card = speaker.card
        return await self.retriever.search(ask.question, vector, speaker.indexes, card.top_k, card.min_score)

    async def _embed(self, text: str) -> NDArray[np.float32]:
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(self._threads, self._embedder.embed, [text])
        return np.asarray(vectors[0])


class Answer:
    """An answer on its way. ``deltas`` gives it out once; after it, ``text``, ``finish_reason``, ``tokens`` and ``about`` are whole."""

    def __init__(
        self,
        ask: Ask,
        speaker: Speaker | None,
        route: Route,
        passages: tuple[Citation, ...],
        flags: tuple[str, ...],
        prompt_tokens: int,
        timings: dict[str, float],
        start: float,
        recorder: Recorder,
        guard: GuardPost,
    ) -> None:
        self.id = new_id("chatcmpl")
        self.text, self.finish_reason = "", "stop"
        self.tokens = {"prompt": prompt_tokens, "completion": 0}
        self.about: dict[str, Any] = {}
        self._ask, self._speaker, self._route, self._passages, self._flags = ask, speaker, route, passages, flags
        self._timings, self._start, self._recorder, self._guard = timings, start, recorder, guard
        self._first: Delta | None = None
        self._rest: AsyncIterator[Delta] | None = None

    async def open(self, deltas: AsyncIterator[Delta]) -> None:
        """Wait for the first delta, so that an adapter that cannot be loaded is an HTTP status and not a broken stream."""
        self._rest = deltas
        try:
            self._first = await anext(deltas)
        except StopAsyncIteration:
            self._first = None
        self._timings["first_token"] = time.perf_counter() - self._start

    async def deltas(self) -> AsyncIterator[str]:
        """The pieces of text. The turn is committed before the iteration ends."""
        pieces: list[str] = []
        try:
            if self._first is not None:
                pieces.append(self._take(self._first))
                yield pieces[-1]
            if self._rest is not None and (self._first is None or self._first.finish_reason is None):
                async for delta in self._rest:
                    pieces.append(self._take(delta))
                    yield pieces[-1]
        finally:
            close = getattr(self._rest, "aclose", None)
            if close is not None:
                await close()
        self.text = "".join(pieces)
        self._check()
        self._timings["total"] = time.perf_counter() - self._start
        await self._finish()

    def _take(self, delta: Delta) -> str:
        self.tokens["completion"] += delta.tokens
        self.finish_reason = delta.finish_reason or self.finish_reason
        return delta.text

    def _check(self) -> None:
        """The guard on the whole answer. What was streamed is out, and is flagged; what was not is shown as the policy says."""
        speaker = self._speaker
        prompt = speaker.card.prompt if speaker else ""
        sources = [*(message.content for message in self._ask.messages), prompt, *(passage.text for passage in self._passages)]
        shown, flags = self._guard.answer(self._ask.user, self.text, prompt, sources, self._route.agent, self._ask.stream)
        if shown != self.text:
            self.text, self.finish_reason = shown, "content_filter"
        self._flags += flags

    async def _finish(self) -> None:
        speaker = self._speaker
        validation = validate(speaker.card, self.text, self._passages) if speaker else Validation(passed=True)
        turn_id = None if speaker is None else await self._recorded(speaker, validation)
        self.about = {
            "turn_id": turn_id,
            "conversation_id": self._conversation if turn_id else self._ask.conversation_id,
            "agent": self._route.agent,
            "release": speaker.ref if speaker else None,
            "digest": speaker.digest if speaker else None,
            "route": {**self._route.model_dump(mode="json"), "scores": {k: round(v, 4) for k, v in self._route.scores.items()}},
            "citations": [passage.model_dump(mode="json") for passage in self._passages],
            "cited": [passage.number for passage in cited(self.text, self._passages)],
            "validation": validation.model_dump(mode="json"),
            "flags": list(self._flags),
            "timings": {name: round(seconds, 4) for name, seconds in self._timings.items()},
        }

    _conversation: str | None = None

    async def _recorded(self, speaker: Speaker, validation: Validation) -> str | None:
        ask = self._ask
        if not ask.record:
            return None
        self._conversation = ask.conversation_id or new_id("conv")
        turn = Turn(
            conversation_id=self._conversation,
            user=ask.user,
            question=ask.question,
            history=ask.history,
            passages=self._passages,
            answer=self.text,
            agent=speaker.card.name,
            release=speaker.ref,
            route=self._route,
            validation=validation,
            timings={name: round(seconds, 6) for name, seconds in self._timings.items()},
            tokens=dict(self.tokens),
        )
        return turn.id if await self._recorder.record(turn) else None
