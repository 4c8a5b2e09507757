"""The finalist: rewrites a question for the search, and makes one answer of retrieved facts and the adapter's own.

It is a base model on its engine without an adapter, or whatever answers at the endpoint of its role. It is never waited for longer
than the settings say, and what it fails at is done without it. With an endpoint, questions, passages and answers leave this service.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from jinja2 import TemplateError

from cluster.chat_client import ChatClient
from cluster.domain.agents import Agent
from cluster.domain.base import new_id
from cluster.domain.conversations import Citation, Message
from cluster.domain.prompts import as_dicts, fusion, prompt_ids, search_request
from cluster.domain.validation import citations
from cluster.errors import InvalidInput, TreadleError, Unavailable
from cluster.settings import Settings
from serve_app.ask import Ask
from serve_app.bases import Bases
from serve_app.engine import Delta, GenerationRequest
from serve_app.validator import validate

log = logging.getLogger(__name__)
QUERY_TOKENS, LONGEST_QUERY = 96, 500
"""What a rewritten question may cost, and how many characters of it are used."""
_NOT_PLAIN = frozenset({"logprobs", "structured_outputs"})


class Said(NamedTuple):
    """What the finalist wrote, and the tokens that it read and wrote."""

    text: str
    tokens_in: int
    tokens_out: int
    finish: str


class Finalist:
    """Who plays the role ``finalist``: an endpoint, or the base of its path. ``apart``: it is another model than the bases."""

    def __init__(self, settings: Settings, bases: Bases) -> None:
        role = settings.models.finalist
        self._role, self._base = role, next((one for one in bases if one.role.path == role.path), bases.first)
        self._rewrite_seconds, self._fuse_seconds = settings.router.rewrite_seconds, settings.router.fuse_seconds
        self.apart = role.endpoint is not None
        self._client: ChatClient | None = None
        if not self.apart and role.path != self._base.role.path:
            log.warning("the finalist %s has no endpoint; the base %s plays it", role.name, self._base.name)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    def rewrites(self, ask: Ask, card: Agent) -> bool:
        """Whether the question is rewritten before the search: there is a history, and the card says so, or says nothing and the
        finalist is a model of its own."""
        wanted = self.apart if card.rewrite is None else card.rewrite
        return wanted and ask.retrieve and bool(ask.history)

    async def query(self, ask: Ask) -> tuple[str, int]:
        """The question as one that can be understood without its history, and the tokens that took. Raises TreadleError."""
        messages = search_request(ask.question, ask.history)
        said = await self._say(messages, QUERY_TOKENS, self._rewrite_seconds)
        query = " ".join(said.text.split()).strip("\"'")[:LONGEST_QUERY].strip()
        if not query or said.finish == "length":
            raise Unavailable("The finalist wrote no query; the question is searched for as it is.")
        return query, said.tokens_in + said.tokens_out

    @staticmethod
    def fuses(ask: Ask, card: Agent, passages: Sequence[Citation]) -> bool:
        """Whether the finalist has the last word: one plain answer on passages, whose card says so."""
        if not card.fuse or not passages:
            return False
        return ask.choices == 1 and not ask.tools and not ask.thread and not (_NOT_PLAIN & (ask.extra or {}).keys())

    async def fused(
        self,
        ask: Ask,
        card: Agent,
        history: Sequence[Message],
        passages: Sequence[Citation],
        draft: str,
        most: int,
    ) -> Said:
        """The final answer. Raises TreadleError when there is none, or it breaks the card's rules or cites what it was not given."""
        messages = fusion(card.prompt, ask.question, history, [passage.text for passage in passages], draft)
        said = await self._say(messages, most, self._fuse_seconds)
        text = said.text.strip()
        checked = validate(card, text, passages)
        strange = set(citations(text)) - {passage.number for passage in passages}
        if not text or said.finish == "length" or strange or not checked.passed:
            raise Unavailable("The finalist's answer is empty, cut off or breaks a rule; the adapter's stands.")
        return said._replace(text=text)

    async def _say(self, messages: Sequence[Message], most: int, seconds: float) -> Said:
        try:
            async with asyncio.timeout(seconds):
                return await (self._ask(messages, most, seconds) if self.apart else self._generate(messages, most))
        except TimeoutError:
            raise Unavailable(
                f"The finalist {self._role.name} did not answer within {seconds:g} s; look at its endpoint."
            ) from None

    async def _ask(self, messages: Sequence[Message], most: int, seconds: float) -> Said:
        if self._client is None:
            role = self._role
            self._client = ChatClient(role.endpoint or "", role.name, role.key, concurrency=64, retries=1, timeout=seconds)
        answer = await self._client.ask(as_dicts(messages), max_tokens=most, temperature=0.0)
        return Said(answer.text, answer.tokens_in, answer.tokens_out, answer.finish)

    async def _generate(self, messages: Sequence[Message], most: int) -> Said:
        try:
            ids = prompt_ids(self._base.tokenizer, messages)
        except (TemplateError, ValueError) as error:
            raise InvalidInput(f"The base model's chat template does not take these messages: {error}") from None
        most_ids = self._base.max_model_len
        room = most_ids - len(ids)
        if room < 1:
            raise InvalidInput(f"The finalist's prompt is {len(ids)} tokens long and the model takes {most_ids - 1}.")
        request = GenerationRequest(id=new_id("gen"), prompt_ids=ids, max_tokens=min(most, room), stream=False)
        text, written, finish = await whole(self._base.engine.generate(request))
        return Said(text, len(ids), written, finish)


async def whole(deltas: AsyncIterator[Delta]) -> tuple[str, int, str]:
    """An answer's text, its tokens and how it ended."""
    pieces: list[str] = []
    tokens, finish = 0, "stop"
    closing: Any = deltas  # every engine's iterator is a generator
    async with contextlib.aclosing(closing):
        async for delta in deltas:
            pieces.append(delta.text)
            tokens += delta.tokens
            finish = delta.finish_reason or finish
    return "".join(pieces), tokens, finish


def reason_of(error: Exception) -> str:
    """For the log: without what was asked or said."""
    return error.message if isinstance(error, TreadleError) else type(error).__name__
