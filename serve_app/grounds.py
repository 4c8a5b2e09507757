"""What an answer rests on and how it came about, beyond question and model: the rewritten query, the passages and the history that were
shown, the adapter's own answer where the finalist had the last word. A plain turn has none of it but its passages."""

import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

from cluster.domain.agents import Agent
from cluster.domain.conversations import Citation, Message
from cluster.domain.prompts import Fitted, fitted
from cluster.errors import TreadleError
from serve_app.ask import Ask
from serve_app.engine import Delta, Engine, GenerationRequest
from serve_app.finalist import Finalist, reason_of, whole
from serve_app.handover import is_marker

log = logging.getLogger(__name__)
NOT_IN_SOURCES, NOT_REWRITTEN, FUSED, NOT_FUSED = "not_in_sources", "not_rewritten", "fused", "not_fused"
PASSAGES_CUT, HISTORY_SHORTENED = "passages_cut", "history_shortened"
Timings = dict[str, float]


@dataclass(slots=True)
class Grounds:
    """Filled while the answer comes about. ``said``: the sentence that stands for an answer, where there is nothing to answer from."""

    history: tuple[Message, ...]
    query: str | None = None
    draft: str | None = None
    said: bool = False
    flags: tuple[str, ...] = ()

    def flag(self, name: str) -> None:
        self.flags = (*self.flags, name)

    async def rewrite(self, finalist: Finalist, ask: Ask, timings: Timings, spent: Callable[[str, int], None]) -> None:
        """Ask the finalist for a query; without one the question stands."""
        start = time.perf_counter()
        try:
            query, tokens = await finalist.query(ask)
        except TreadleError as error:
            log.warning("a question was not rewritten: %s", reason_of(error))
            self.flag(NOT_REWRITTEN)
        else:
            spent(ask.user, tokens)
            self.query = query
        timings["rewrite"] = time.perf_counter() - start

    def fit(
        self, ids_of: Callable[[list[Message]], list[int]], ask: Ask, card: Agent, passages: tuple[Citation, ...], room: int
    ) -> tuple[list[int], tuple[Citation, ...]]:
        """The prompt's ids and the passages in it, in a ``room`` of so many tokens. Knows no calls of tools: their history stays whole."""
        texts = [passage.text for passage in passages]
        budget = card.passage_tokens if isinstance(card.passage_tokens, int) else None
        shorten = card.shorten_history and not ask.thread
        made: Fitted = fitted(ids_of, card.prompt, ask.question, ask.history, texts, room, budget, shorten)
        if made.passages < len(passages):
            self.flag(PASSAGES_CUT)
        if len(made.history) < len(ask.history):
            self.flag(HISTORY_SHORTENED)
            self.history = made.history
        return made.ids, passages[: made.passages]

    async def fuse(
        self,
        finalist: Finalist,
        engine: Engine,
        request: GenerationRequest,
        ask: Ask,
        card: Agent,
        passages: tuple[Citation, ...],
        timings: Timings,
        spent: Callable[[str, int], None],
    ) -> AsyncIterator[Delta]:
        """The final answer in one piece: it is checked before any of it is shown. The adapter's own where there is none."""
        start = time.perf_counter()
        draft, tokens, finish = await whole(engine.generate(replace(request, stream=False)))
        timings["draft"] = time.perf_counter() - start
        if card.hands_over_to and is_marker(draft):
            yield Delta(draft, tokens, finish)
            return
        try:
            final = await finalist.fused(ask, card, self.history, passages, draft, request.max_tokens)
        except TreadleError as error:
            log.warning("an answer was not fused: %s", reason_of(error))
            self.flag(NOT_FUSED)
            last = Delta(draft, tokens, finish)
        else:
            spent(ask.user, tokens + final.tokens_in)
            self.draft = draft
            self.flag(FUSED)
            last = Delta(final.text, final.tokens_out, final.finish)
        timings["fuse"] = time.perf_counter() - start - timings["draft"]
        yield last

    def shown(self) -> dict[str, Any]:
        """Its part of an answer's ``treadle`` object: nothing for a plain turn."""
        found = {"query": self.query, "draft": self.draft}
        return {name: value for name, value in found.items() if value is not None}


async def sentence(text: str) -> AsyncIterator[Delta]:
    """A fixed answer, which no model wrote."""
    yield Delta(text, 0, "stop")
