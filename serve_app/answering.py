"""A question and its answer: guard → route → retrieve → render → generate → validate → record.

System messages of the client are not used when an agent answers: its card's prompt is what was trained and evaluated. They are used
with the bare base model, which has no card.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray

from cluster.domain.agents import GenerationSettings
from cluster.domain.base import new_id
from cluster.domain.conversations import Citation, Message, Route, Turn
from cluster.domain.prompts import prompt_ids, render, tool_prompt_ids
from cluster.domain.users import Role
from cluster.domain.validation import Validation
from cluster.domain.versions import split_ref
from cluster.embedding import Embedder
from cluster.errors import InvalidInput, Unavailable
from serve_app.engine import Delta, Engine, GenerationRequest
from serve_app.guard import GuardPost
from serve_app.meters import Meters
from serve_app.recording import Recorder
from serve_app.releases import LiveReleases, Speaker
from serve_app.retriever import Retriever
from serve_app.router import RouterHead, default_route
from serve_app.validator import cited, validate

AUTO = "auto"
SEEDS = 1 << 63
"""Seeds are below it, as torch takes them."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question. ``overrides`` are the generation settings that the client gave, ``extra`` those that cards do not know (see
    ``GenerationRequest``); ``messages`` end with the user's. ``user`` and ``role`` say which agents may answer. ``thread`` is the talk
    with its tool calls, where there are ``tools``."""

    user: str
    model: str
    messages: tuple[Message, ...]
    role: Role = "user"
    conversation_id: str | None = None
    retrieve: bool = True
    record: bool = True
    stream: bool = False
    seed: int | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] | None = None
    choices: int = 1
    tools: tuple[dict[str, Any], ...] = ()
    thread: tuple[dict[str, Any], ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)

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
        meters: Meters,
        spent: Callable[[str, int], None],
    ) -> None:
        self.engine, self.live, self.retriever, self.base_name = engine, live, retriever, base_name
        self.head: RouterHead | None = None
        self.guard = guard
        self._recorder, self.embedder, self.tokenizer = recorder, embedder, tokenizer
        self._threads, self._max_model_len, self._meters, self._spent = threads, max_model_len, meters, spent

    async def begin(self, ask: Ask) -> "Answer":
        """Everything up to the first piece of the answer. Raises the TreadleError that the client shall see."""
        start = time.perf_counter()
        read = [message.content for message in ask.messages if message.role != "assistant"]
        read += [one["content"] for one in ask.thread if one["role"] == "tool"]
        flags = await self.check(ask.user, ask.model, read)
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
        ids = self._prompt(ask, messages)
        request = self.request(ids, generation, ask, speaker.adapter if speaker else None)
        answer = Answer(
            ask, speaker, route, passages, flags, len(ids), timings, start, self._recorder, self.guard, self._meters, self._spent
        )
        await answer.open(self.engine.generate(request))
        if ask.choices > 1:
            answer.others = tuple(self.counted(one, ask.user) for one in self.more(request, ask.choices - 1))
        return answer

    async def counted(self, request: GenerationRequest, user: str, prompt_tokens: int = 0) -> AsyncIterator[Delta]:
        """A generation that is no turn, of which the user's quota hears all the same."""
        tokens = prompt_tokens
        try:
            async with contextlib.aclosing(self.engine.generate(request)) as deltas:
                async for delta in deltas:
                    tokens += delta.tokens
                    yield delta
        finally:
            self._spent(user, tokens)

    async def check(self, user: str, model: str, texts: Sequence[str]) -> tuple[str, ...]:
        """The flags of the guard, by the policy that holds for who is asked. Raises GuardBlocked."""
        return await self.guard.question(user, texts, self.live.guard_policy(split_ref(model)[0]))

    def request(self, ids: list[int], generation: GenerationSettings, ask: Ask, adapter: str | None) -> GenerationRequest:
        """What the engine is asked. Raises InvalidInput when the prompt leaves no room for an answer."""
        room = self._max_model_len - len(ids)
        if room < 1:
            raise InvalidInput(
                f"The prompt is {len(ids)} tokens long and the model takes {self._max_model_len - 1}; send a shorter history or question."
            )
        chosen = generation.model_copy(update=ask.overrides) if ask.overrides else generation
        return GenerationRequest(
            id=new_id("gen"),
            prompt_ids=ids,
            adapter=adapter,
            max_tokens=min(chosen.max_tokens, room),
            temperature=chosen.temperature,
            top_p=chosen.top_p,
            stop=tuple(chosen.stop),
            seed=ask.seed,
            stream=ask.stream,
            extra=ask.extra,
        )

    def more(self, first: GenerationRequest, count: int) -> list[GenerationRequest]:
        """The same once more, ``count`` times, each with a seed of its own where there is one."""
        seeds = [None if first.seed is None else (first.seed + number) % SEEDS for number in range(1, count + 1)]
        return [replace(first, id=new_id("gen"), seed=seed) for seed in seeds]

    def _prompt(self, ask: Ask, messages: list[Message]) -> list[int]:
        try:
            if not ask.thread:
                return prompt_ids(self.tokenizer, messages)
            return tool_prompt_ids(self.tokenizer, messages, ask.thread, ask.tools)
        except (TemplateError, ValueError) as error:
            raise InvalidInput(f"The base model '{self.base_name}' does not take these messages: {error}; send others.") from None

    async def _speaker(self, ask: Ask) -> tuple[Speaker, Route, NDArray[np.float32] | None]:
        if ask.model != AUTO:
            speaker = await self.live.speaker(ask.model, ask)
            return speaker, Route(agent=speaker.card.name), None
        default = self.live.default(ask)
        if default is None:
            raise Unavailable("There is no agent yet to answer 'auto'; create one with: treadle agents create")
        if self.head is None:
            return self.live.champion(default.name), default_route(default.name), None
        vector = (await self.embed([ask.question]))[0]
        route = self.head.route(vector, ask.question, self.live.routable(ask), default.name)
        return self.live.champion(route.agent), route, vector

    async def _passages(self, ask: Ask, speaker: Speaker, vector: NDArray[np.float32] | None) -> tuple[Citation, ...]:
        if not ask.retrieve or not speaker.indexes:
            return ()
        if vector is None:
            vector = (await self.embed([ask.question]))[0]
        card = speaker.card
        return await self.retriever.search(ask.question, vector, speaker.indexes, card.top_k, card.min_score)

    async def embed(self, texts: list[str]) -> NDArray[np.float32]:
        """Unit vectors of texts, one a row, made off the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.embedder.embed, texts)


class Answer:
    """An answer on its way. ``deltas`` gives it out once; after it, ``text``, ``finish_reason``, ``tokens`` and ``about`` are whole.

    ``others`` are further answers to the same question, when several were asked for; they are not recorded.
    """

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
        meters: Meters,
        spent: Callable[[str, int], None],
    ) -> None:
        self.id = new_id("chatcmpl")
        self.text, self.finish_reason = "", "stop"
        self.tokens = {"prompt": prompt_tokens, "completion": 0}
        self.about: dict[str, Any] = {}
        self._ask, self._speaker, self._route, self._passages, self._flags = ask, speaker, route, passages, flags
        self._timings, self._start, self._recorder, self._guard = timings, start, recorder, guard
        self._meters, self._spent = meters, spent
        self.others: tuple[AsyncIterator[Delta], ...] = ()
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

    async def deltas(self) -> AsyncIterator[Delta]:
        """The pieces. The turn is committed before the iteration ends."""
        pieces: list[str] = []
        try:
            if self._first is not None:
                pieces.append(self._take(self._first))
                yield self._first
            if self._rest is not None and (self._first is None or self._first.finish_reason is None):
                async for delta in self._rest:
                    pieces.append(self._take(delta))
                    yield delta
        finally:
            self.spent(sum(self.tokens.values()))
            close = getattr(self._rest, "aclose", None)
            if close is not None:
                await close()
        text = "".join(pieces)
        self.text = self.checked(text)
        if self.text != text:
            self.finish_reason = "content_filter"
        self._timings["total"] = time.perf_counter() - self._start
        await self._finish()

    def spent(self, tokens: int) -> None:
        """Count tokens against the day of who asked."""
        self._spent(self._ask.user, tokens)

    def _take(self, delta: Delta) -> str:
        self.tokens["completion"] += delta.tokens
        self.finish_reason = delta.finish_reason or self.finish_reason
        return delta.text

    def checked(self, text: str) -> str:
        """A whole text as the guard lets it be shown. What was streamed is out, and is only flagged."""
        speaker = self._speaker
        prompt = speaker.card.prompt if speaker else ""
        sources = [*(message.content for message in self._ask.messages), prompt, *(passage.text for passage in self._passages)]
        shown, flags = self._guard.answer(self._ask.user, text, prompt, sources, self._route.agent, self._ask.stream)
        self._flags = tuple(dict.fromkeys((*self._flags, *flags)))
        if self.about:
            self.about["flags"] = list(self._flags)
        return shown

    async def _finish(self) -> None:
        speaker = self._speaker
        validation = validate(speaker.card, self.text, self._passages) if speaker else Validation(passed=True)
        turn_id = None if speaker is None else await self._recorded(speaker, validation)
        self._meters.answered(self._route.agent, self.finish_reason, self.tokens, self._timings, validation.passed)
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
            metadata=ask.metadata,
        )
        return turn.id if await self._recorder.record(turn) else None
