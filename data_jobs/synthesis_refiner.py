"""Asking the refiner and the judge: bounded in number and in tokens, each answer in the journal before it is used.

An answer that cannot be read is asked for once more, with what was wrong; after that it counts as malformed. A model that fails too
often in a row ends the run, and the next one goes on from the journal.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from cluster.chat_client import Answer, ChatClient, estimated_tokens
from cluster.domain.base import digest_of
from cluster.domain.data_recipes import SynthesiseRecipe
from cluster.domain.documents import Passage
from cluster.errors import InvalidInput, Unavailable
from data_jobs.synthesis_checks import Pair
from data_jobs.synthesis_journal import Entry, Journal
from data_jobs.synthesis_prompts import Chat, Malformed, asking, judging, pairs_in, repairing, score_in

MOST_FAILURES = 5
_JUDGE_TOKENS = 200
T = TypeVar("T")


class Refiner:
    """A model that is asked about passages. ``entries`` are all that this run rests on, from the journal or just answered."""

    def __init__(self, client: ChatClient, journal: Journal, recipe: SynthesiseRecipe, budget: "Budget") -> None:
        self._client, self._journal, self._recipe, self._budget = client, journal, recipe, budget
        self._failed_in_a_row = 0
        self.entries: dict[str, Entry] = {}
        self.reused = 0

    async def pairs(self, passage: Passage, kind: str, count: int) -> Entry | None:
        """What the model makes of the passage; None where the budget does not allow the question."""
        chat = asking(passage, kind, count)
        options = {"temperature": self._recipe.temperature, "max_tokens": self._recipe.max_tokens}
        return await self._entry(passage, chat, options, lambda text: {"pairs": tuple(pairs_in(text, kind, count))})

    async def score(self, pair: Pair, passage: Passage) -> Entry | None:
        """How the model judges the pair."""
        options = {"temperature": 0.0, "max_tokens": _JUDGE_TOKENS}
        return await self._entry(passage, judging(pair, passage), options, lambda text: {"score": score_in(text)})

    async def _entry(
        self, passage: Passage, chat: Chat, options: dict[str, Any], read: Callable[[str], dict[str, Any]]
    ) -> Entry | None:
        key = digest_of([self._client.endpoint, self._client.model, chat, options])
        known = self._journal.get(key)
        if known is not None:
            if key not in self.entries:
                self.reused += 1
                self._budget.spend(known)
            self.entries[key] = known
            return known
        made = {"key": key, "about": passage_digest(passage)}
        try:
            entry = await self._asked(chat, options, read, made)
        except InvalidInput:
            entry = Entry(**made, problem="refused")
        except Unavailable as error:
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= MOST_FAILURES:
                go_on = f"run again to go on from the {len(self._journal)} answers that are kept"
                raise Unavailable(f"{error.message} It failed {MOST_FAILURES} times in a row; {go_on}.") from None
            return Entry(**made, problem="unavailable", requests=0)
        self._failed_in_a_row = 0
        if entry is not None:
            self.entries[key] = self._journal.add(entry)
        return entry

    async def _asked(
        self, chat: Chat, options: dict[str, Any], read: Callable[[str], dict[str, Any]], made: dict[str, str]
    ) -> Entry | None:
        """At most two requests. None where the budget does not reach for the first."""
        tokens_in = tokens_out = requests = 0
        problem = ""
        for _ in range(2):
            answer = await self._budget.within(chat, options["max_tokens"], lambda said=chat: self._client.ask(said, **options))
            if answer is None:
                break
            requests += 1
            tokens_in, tokens_out = tokens_in + answer.tokens_in, tokens_out + answer.tokens_out
            try:
                found = read(answer.text)
                return Entry(**made, **found, tokens_in=tokens_in, tokens_out=tokens_out, requests=requests)
            except Malformed as error:
                problem = "cut_off" if answer.finish == "length" else "malformed"
                chat = repairing(chat, answer.text, str(error), answer.finish == "length")
        if not requests:
            return None
        return Entry(**made, problem=problem, tokens_in=tokens_in, tokens_out=tokens_out, requests=requests)


class Budget:
    """Tokens that may be spent. A request sets aside its prompt (estimated) and its longest answer, and gives back what it did not
    use, so requests under way at once cannot overrun the bound by more than the estimate's error."""

    def __init__(self, most: int | None) -> None:
        self._most, self._aside, self.tokens_in, self.tokens_out, self.reached = most, 0, 0, 0, False
        self._changed = asyncio.Condition()

    def spend(self, entry: Entry) -> None:
        """Counts what an answer cost when it was given."""
        self.tokens_in, self.tokens_out = self.tokens_in + entry.tokens_in, self.tokens_out + entry.tokens_out

    async def within(self, chat: Chat, longest: int, ask: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """The answer; None, for this request and all after it, where the budget does not reach."""
        size = estimated_tokens(chat) + longest
        async with self._changed:
            await self._changed.wait_for(lambda: self.reached or self._fits(size) or not self._aside)
            if self.reached or not self._fits(size):
                self.reached = True
                return None
            self._aside += size
        answer = None
        try:
            answer = await ask()
            return answer
        finally:
            self._aside -= size
            if answer is not None:
                self.tokens_in, self.tokens_out = self.tokens_in + answer.tokens_in, self.tokens_out + answer.tokens_out
            async with self._changed:
                self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        return self._most is None or self.tokens_in + self.tokens_out + self._aside + size <= self._most


def passage_digest(passage: Passage) -> str:
    """What a model sees of a passage."""
    return digest_of([passage.heading, passage.text])


async def together(work: Sequence[Awaitable[T]]) -> list[T]:
    """All results in order; when one fails, the others are stopped before the error goes on."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
