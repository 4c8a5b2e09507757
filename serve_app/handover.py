"""Handing a conversation over: by the person's word, or by an agent whose whole answer is ``[[handover:NAME]]``.

An agent may hand over to those that its card names (``hands_over_to``), and only once a turn; what its prompt or training says decides
when it does.
"""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from cluster.domain.agents import Agent
from serve_app.engine import Delta

LONGEST_WISH = 2000
NOT_HANDED_OVER = "I cannot help with that; ask another agent."
_ASKS = re.compile(
    r"\s*(?:please,? )?(?:"
    r"(?:let me|can i|could i|may i|i want to|i would like to|i'd like to|i need to) (?:speak|talk|chat) (?:to|with)"
    r"|(?:can you |could you )?(?:please )?(?:switch|change|(?:hand|pass) me over|transfer me|connect me|put me through) (?:to|with)"
    r") (?:the )?",
    re.IGNORECASE,
)
_CALLED = (" agent", " assistant", " bot")
_OPENING = "[[handover:"
_MARKER = re.compile(r"\s*\[\[handover:\s*([a-z0-9._-]{1,64})\s*\]\]\s*")
_LONGEST_MARKER = 120


def wanted(text: str, cards: Callable[[], Sequence[Agent]]) -> tuple[str, str] | None:
    """Whom of these a text asks for by name ("let me speak to the python agent: …"), and the question after the colon, if any."""
    asks = _ASKS.match(text[:LONGEST_WISH])
    if asks is None:
        return None
    said, _, question = text[asks.end() :].partition(":")
    name = " ".join(said.casefold().strip(" .!?,\n").removesuffix("please").strip(" ,").split())
    for word in _CALLED:
        name = name.removesuffix(word)
    for card in cards():
        titles = {card.name, card.display_name.casefold(), card.display_name.casefold().removesuffix(" agent")}
        if name and name in titles:
            return card.name, question.strip()
    return None


class Heard(NamedTuple):
    """An answer's beginning: the agent it hands over to, if that is all it says; ``tokens`` were read so far, ``deltas`` give all."""

    to: str | None
    tokens: int
    deltas: AsyncIterator[Delta]


async def heard(deltas: AsyncIterator[Delta]) -> Heard:
    """Read an answer as far as it may still be the marker: mostly its first piece."""
    read: list[Delta] = []
    text, found = "", None
    async for delta in deltas:
        read.append(delta)
        text += delta.text
        begun = text.lstrip()
        if delta.finish_reason is not None:
            found = _MARKER.fullmatch(text)
            break
        if not _OPENING.startswith(begun[: len(_OPENING)]) or len(text) > _LONGEST_MARKER:
            break
    return Heard(found.group(1) if found else None, sum(one.tokens for one in read), _again(read, deltas))


async def _again(read: Sequence[Delta], rest: AsyncIterator[Delta]) -> AsyncIterator[Delta]:
    try:
        for delta in read:
            yield delta
        if not read or read[-1].finish_reason is None:
            async for delta in rest:
                yield delta
    finally:
        await closed(rest)


def is_marker(text: str) -> bool:
    """Whether a whole answer hands over."""
    return _MARKER.fullmatch(text) is not None


async def closed(deltas: AsyncIterator[Delta]) -> None:
    """End a generation of which no more is read."""
    close = getattr(deltas, "aclose", None)
    if close is not None:
        await close()


async def unmarked(deltas: AsyncIterator[Delta]) -> AsyncIterator[Delta]:
    """An answer that is no turn (a further choice): a marker in its place is not followed, and not shown."""
    one = await heard(deltas)
    if one.to is None:
        async for delta in one.deltas:
            yield delta
        return
    await closed(one.deltas)
    yield Delta(NOT_HANDED_OVER, one.tokens, "stop")
