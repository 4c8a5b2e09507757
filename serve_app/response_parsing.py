"""Answers on their way, without what is not theirs (see ``cluster.domain.response_parsing``)."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from jinja2 import TemplateError

from cluster.domain.conversations import Citation
from cluster.domain.response_marks import Marks, marks_of
from cluster.domain.response_parsing import ResponseParser
from serve_app.ask import Ask
from serve_app.engine import Delta


def served_marks(tokenizer: Any) -> Marks:
    """The marks of the served base; the usual ones where its chat template cannot be used."""
    try:
        return marks_of(tokenizer)
    except (TemplateError, ValueError):
        return Marks()


def parser_of(marks: Marks, ask: Ask, passages: Sequence[Citation]) -> ResponseParser | None:
    """For one answer. None where a grammar holds it to a form, where a parser of tool calls needs every mark, and where the tokens are
    told with their log-probabilities: together they are the text."""
    if ask.tools or (ask.extra is not None and ("structured_outputs" in ask.extra or "logprobs" in ask.extra)):
        return None

    def sources() -> Iterator[str]:
        yield from (message.content for message in ask.messages)
        yield from (passage.text for passage in passages)

    return ResponseParser(marks, ask.question, sources)


def taken(parser: ResponseParser, delta: Delta) -> Delta:
    """The delta as it is shown. The one that ends the answer holds what had waited; a cut ends it, whatever would come."""
    text = parser.feed(delta.text)
    if parser.cut:
        return delta._replace(text=text, finish_reason=delta.finish_reason or "stop")
    if delta.finish_reason is not None:
        text += parser.finish()
    return delta if text == delta.text else delta._replace(text=text)


async def cleaned(deltas: AsyncIterator[Delta], parser: ResponseParser) -> AsyncIterator[Delta]:
    """A stream of deltas as it is shown. Ends, and ends what it comes from, where the answer is cut."""
    async with contextlib.aclosing(deltas):  # type: ignore[type-var]
        async for delta in deltas:
            yield taken(parser, delta)
            if parser.cut:
                return
    rest = parser.finish()
    if rest:
        yield Delta(rest, 0)
