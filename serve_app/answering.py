"""A question and its answer: guard → route → retrieve → render → generate → validate → record.

System messages of the client are not used when an agent answers: its card's prompt is what was trained and evaluated. They are used
with the bare base model, which has no card.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.domain.agents import Agent, GenerationSettings
from cluster.domain.base import new_id
from cluster.domain.conversations import Citation, Message, Route
from cluster.domain.prompts import render
from cluster.domain.versions import split_ref
from cluster.embedding import Embedder
from serve_app.answer import Answer
from serve_app.ask import AUTO, SEEDS, Ask
from serve_app.bases import Base, Bases
from serve_app.correction import Corrector, corrects
from serve_app.engine import Delta, GenerationRequest
from serve_app.experiments import Experiments, untried
from serve_app.finalist import Finalist
from serve_app.grounds import NOT_IN_SOURCES, Grounds, sentence
from serve_app.guard import GuardPost
from serve_app.handover import closed, heard, unmarked
from serve_app.meters import Meters
from serve_app.picking import Embed, Pick, Picker, handed_on
from serve_app.recording import Recorder
from serve_app.releases import LiveReleases, Speaker
from serve_app.response_parsing import cleaned, parser_of
from serve_app.retriever import Retriever
from serve_app.router import RouterHead
from serve_app.validator import Validator


class Answering:
    """The parts that answer, put together. ``head`` is the router head in use (None: the default agent answers ``auto``)."""

    def __init__(
        self,
        *,
        bases: Bases,
        live: LiveReleases,
        guard: GuardPost,
        retriever: Retriever,
        recorder: Recorder,
        embedder: Embedder,
        threads: ThreadPoolExecutor,
        meters: Meters,
        spent: Callable[[str, int], None],
        experiments: Experiments,
        validator: Validator,
        finalist: Finalist,
    ) -> None:
        self.experiments, self.finalist = experiments, finalist
        self.bases, self.live, self.retriever = bases, live, retriever
        self.head: RouterHead | None = None
        self.guard = guard
        self._recorder, self.embedder, self._validator = recorder, embedder, validator
        self._threads, self._meters, self._spent = threads, meters, spent

    async def begin(self, ask: Ask) -> Answer:
        """Everything up to the first piece of the answer. Raises the TreadleError that the client shall see."""
        if self.experiments.may_take(ask):
            return await self.experiments.answered(ask, self._begin)
        return await self._begin(ask)

    async def _begin(self, ask: Ask) -> Answer:
        start = time.perf_counter()
        read = [message.content for message in ask.messages if message.role != "assistant"]
        read += [one["content"] for one in ask.thread if one["role"] == "tool"]
        routed = ask.model == AUTO and self.head is not None
        vectors = self.embed([ask.question]) if routed else None  # made while the guard reads
        flags = await self.check(ask.user, ask.model, read)
        timings: dict[str, float] = {}
        bare = self.bases.named(ask.model)
        if bare is not None:
            return await self._begun(ask, bare, flags, timings, start)
        pick = await self._picked(ask, vectors)
        timings["route"] = time.perf_counter() - start
        return await self._begun(pick.ask, pick, flags, timings, start)

    async def _begun(
        self, ask: Ask, pick: Pick | Base, flags: tuple[str, ...], timings: dict[str, float], start: float
    ) -> Answer:
        passages: tuple[Citation, ...] = ()
        grounds = Grounds(ask.history)
        if isinstance(pick, Base):
            base, speaker, route = pick, None, Route(agent=pick.name)
            messages, generation = list(ask.messages), GenerationSettings()
        else:
            speaker, route = pick.speaker, pick.route
            base = self.bases.of(speaker.release)
            if pick.sentence is not None:
                answer = self._answer(base, ask, speaker, route, passages, flags, 0, timings, start, grounds)
                await answer.open(sentence(pick.sentence))
                return answer
            if speaker.indexes and self.finalist.rewrites(ask, speaker.card):
                await grounds.rewrite(self.finalist, ask, timings, self._spent)
            sought = time.perf_counter()
            passages, found = self.guard.passages(ask.user, await self._passages(ask, speaker, pick.vector, grounds.query))
            flags += found
            timings["retrieve"] = time.perf_counter() - sought
            if not passages and speaker.card.when_nothing == "say" and speaker.card.corpora and ask.retrieve:
                return await self._say_nothing_found(base, ask, speaker, route, flags, timings, start, grounds)
            messages = render(speaker.card.prompt, ask.question, grounds.history, [passage.text for passage in passages])
            generation = speaker.card.generation
        ids = base.prompt(ask, messages)
        if speaker and (speaker.card.passage_tokens or speaker.card.shorten_history or len(ids) >= base.max_model_len):
            ids, passages = _fit(base, ask, speaker.card, passages, grounds, ids)
            messages = render(speaker.card.prompt, ask.question, grounds.history, [passage.text for passage in passages])
        request = base.request(ids, generation, ask, speaker.adapter if speaker else None)
        if speaker is not None and self.finalist.fuses(ask, speaker.card, passages):
            deltas = grounds.fuse(self.finalist, base.engine, request, ask, speaker.card, passages, timings, self._spent)
        else:
            deltas = base.engine.generate(request)
        if isinstance(pick, Pick) and pick.speaker.card.hands_over_to:
            one = await heard(deltas)
            deltas = one.deltas
            if one.to is not None and (onward := handed_on(pick, one.to, ask, self.live)) is not None:
                await closed(deltas)
                self._spent(ask.user, len(ids) + one.tokens)
                return await self._begun(untried(ask), onward, flags, timings, start)
        answer = self._answer(base, ask, speaker, route, passages, flags, len(ids), timings, start, grounds)
        if speaker is not None and corrects(speaker.card, ask):
            answer.corrector = self._corrector(base, answer, ask, speaker, messages, passages)
        await answer.open(deltas if ask.trial is None else self.experiments.watched(ask, deltas))
        if ask.choices > 1:
            unmark = speaker is not None and bool(speaker.card.hands_over_to)
            others = [self._other(base, one, ask, passages) for one in self.more(request, ask.choices - 1)]
            answer.others = tuple(unmarked(one) if unmark else one for one in others)
        return answer

    def _answer(
        self, base: Base, ask: Ask, speaker: Speaker | None, route: Route, passages: tuple[Citation, ...], *decided: Any
    ) -> Answer:
        *told, grounds = decided
        parts = (self._recorder, self.guard, self._meters, self._spent, self._validator)
        parser = parser_of(base.marks, ask, passages)
        return Answer(ask, speaker, route, passages, *told, *parts, parser, grounds, base.engine)

    def _other(self, base: Base, request: GenerationRequest, ask: Ask, passages: tuple[Citation, ...]) -> AsyncIterator[Delta]:
        """A further choice."""
        parser, deltas = parser_of(base.marks, ask, passages), self.counted(base, request, ask.user)
        return deltas if parser is None else cleaned(deltas, parser)

    def _corrector(
        self, base: Base, answer: Answer, ask: Ask, speaker: Speaker, messages: list[Message], passages: tuple[Citation, ...]
    ) -> Corrector:
        def write(longer: list[Message]) -> tuple[AsyncIterator[Delta], int]:
            ids = base.prompt(ask, longer)
            request = base.request(ids, speaker.card.generation, ask, speaker.adapter)
            return self.counted(base, request, ask.user, len(ids)), len(ids)

        return Corrector(messages, write, lambda: parser_of(base.marks, ask, passages), answer.judged, answer.checked_again)

    async def _say_nothing_found(
        self,
        base: Base,
        ask: Ask,
        speaker: Speaker,
        route: Route,
        flags: tuple[str, ...],
        timings: dict[str, float],
        start: float,
        grounds: Grounds,
    ) -> Answer:
        """The card's sentence in place of an answer."""
        grounds.said = True
        answer = self._answer(base, ask, speaker, route, (), (*flags, NOT_IN_SOURCES), 0, timings, start, grounds)
        await answer.open(sentence(speaker.card.nothing_said))
        answer.others = tuple(sentence(speaker.card.nothing_said) for _ in range(ask.choices - 1))
        return answer

    async def counted(self, base: Base, request: GenerationRequest, user: str, prompt_tokens: int = 0) -> AsyncIterator[Delta]:
        """A generation that is no turn, of which the user's quota hears all the same."""
        tokens = prompt_tokens
        try:
            async with contextlib.aclosing(base.engine.generate(request)) as deltas:
                async for delta in deltas:
                    tokens += delta.tokens
                    yield delta
        finally:
            self._spent(user, tokens)

    async def check(self, user: str, model: str, texts: Sequence[str]) -> tuple[str, ...]:
        """The flags of the guard, by the policy that holds for who is asked. Raises GuardBlocked, and TooMany when there is no room."""
        self.bases.room.admit()
        return await self.guard.question(user, texts, self.live.guard_policy(split_ref(model)[0]))

    async def unseen(self, ask: Ask, speaker: Speaker) -> tuple[GenerationRequest, tuple[Citation, ...]]:
        """What the engine would be asked if this speaker answered, and the passages."""
        passages, _ = self.guard.passages(ask.user, await self._passages(ask, speaker, None))
        messages = render(speaker.card.prompt, ask.question, ask.history, [passage.text for passage in passages])
        base = self.bases.of(speaker.release)
        return base.request(base.prompt(ask, messages), speaker.card.generation, ask, speaker.adapter), passages

    def more(self, first: GenerationRequest, count: int) -> list[GenerationRequest]:
        """The same once more, ``count`` times, each with a seed of its own where there is one."""
        seeds = [None if first.seed is None else (first.seed + number) % SEEDS for number in range(1, count + 1)]
        return [replace(first, id=new_id("gen"), seed=seed) for seed in seeds]

    async def _picked(self, ask: Ask, vectors: asyncio.Future[NDArray[np.float32]] | None) -> Pick:
        if ask.model == AUTO:
            question = [ask.question]
            embed: Embed = lambda texts: vectors if vectors is not None and texts == question else self.embed(texts)  # noqa: E731
            pick = await Picker(ask, self.live, self.head, embed).pick()
        else:
            speaker = await self.live.speaker(ask.model, ask)
            pick = Pick(ask, speaker, Route(agent=speaker.card.name))
        if ask.trial is None or pick.sentence is not None:
            return pick
        placed, speaker = self.experiments.placed(self, pick.ask, pick.speaker)
        return replace(pick, ask=placed, speaker=speaker)

    async def _passages(
        self, ask: Ask, speaker: Speaker, vector: NDArray[np.float32] | None, query: str | None = None
    ) -> tuple[Citation, ...]:
        if not ask.retrieve or not speaker.indexes:
            return ()
        sought = query or ask.question
        if vector is None or query:
            vector = (await self.embed([sought]))[0]
        card = speaker.card
        return await self.retriever.search(sought, vector, speaker.indexes, card.top_k, card.min_score, ask.reader)

    def embed(self, texts: list[str]) -> asyncio.Future[NDArray[np.float32]]:
        """Unit vectors of texts, one a row, made off the event loop from now on."""
        return asyncio.get_running_loop().run_in_executor(self._threads, self.embedder.embed, texts)


def _fit(
    base: Base, ask: Ask, card: Agent, passages: tuple[Citation, ...], grounds: Grounds, ids: list[int]
) -> tuple[list[int], tuple[Citation, ...]]:
    """The prompt cut to what the model takes; a card that says how leaves the answer its tokens too, up to half of the model's."""
    room = base.max_model_len - 1
    if card.passage_tokens or card.shorten_history:
        answer = ask.overrides.get("max_tokens", card.generation.max_tokens)
        room = base.max_model_len - min(answer, base.max_model_len // 2)
    if len(ids) <= room and not isinstance(card.passage_tokens, int):
        return ids, passages
    return grounds.fit(lambda messages: base.prompt(ask, messages), ask, card, passages, room)
