"""Chat answers beyond the plain one: several choices, log-probabilities, tool calls. Costs only those who ask for it."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from serve_app.answer import Answer
from serve_app.ask import Ask
from serve_app.choices import Choice, together
from serve_app.engine import Engine, TokenLogprob
from serve_app.tool_use import as_message, called

Chunk = Callable[..., str]


def logprobs_body(found: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Log-probabilities as OpenAI's chat writes them."""
    return {
        "content": [
            {**_entry(one.token, one.logprob), "top_logprobs": [_entry(token, value) for token, value in one.top]}
            for one in found
        ]
    }


def _entry(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "replace"))}


async def whole_choices(answer: Answer, ask: Ask, called_by: str) -> list[dict[str, Any]]:
    """All choices of an answer that is not streamed."""
    choices = [Choice() for _ in range(1 + len(answer.others))]
    async for number, delta in together([answer.deltas(), *answer.others]):
        choices[number].take(delta)
    answer.tokens["completion"] = sum(choice.tokens for choice in choices)
    for number, choice in enumerate(choices):
        shown = answer.checked(choice.text) if number else answer.text
        if shown != choice.text:  # the guard's doing; log-probabilities would tell what it took out
            choice.text, choice.finish_reason, choice.logprobs = shown, "content_filter", []
    return [await _choice(number, choice, ask, answer.engine, called_by) for number, choice in enumerate(choices)]


async def _choice(number: int, choice: Choice, ask: Ask, engine: Engine, called_by: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text}
    reason = choice.finish_reason
    if ask.tools:
        message = as_message(await called(engine, choice.text, ask.tools, called_by))
        reason = "tool_calls" if "tool_calls" in message and reason == "stop" else reason
    body = {"index": number, "message": message, "finish_reason": reason}
    return {**body, "logprobs": logprobs_body(choice.logprobs)} if _wants_logprobs(ask) else body


def _wants_logprobs(ask: Ask) -> bool:
    return "logprobs" in (ask.extra or {})


async def choice_chunks(answer: Answer, ask: Ask, called_by: str, chunk: Chunk) -> AsyncIterator[str]:
    """The chunks of all choices. With tools each choice comes in one piece: whether it calls is known at its end.

    The first choice ends last, with the ``treadle`` object.
    """
    choices = [Choice() for _ in range(1 + len(answer.others))]
    begun: set[int] = set()
    async for number, delta in together([answer.deltas(), *answer.others]):
        choice = choices[number]
        choice.take(delta)
        if not ask.tools and (delta.text or delta.logprobs or number not in begun):
            role = {} if number in begun else {"role": "assistant"}
            begun.add(number)
            more = {"logprobs": logprobs_body(delta.logprobs or ())} if _wants_logprobs(ask) else {}
            yield chunk({**role, "content": delta.text}, index=number, **more)
        if number and delta.finish_reason:
            answer.checked(choice.text)
            async for text in _end(number, choice, ask, answer.engine, called_by, chunk):
                yield text
    answer.tokens["completion"] = sum(choice.tokens for choice in choices)
    async for text in _end(0, choices[0], ask, answer.engine, called_by, chunk, treadle=answer.about):
        yield text


async def _end(
    number: int, choice: Choice, ask: Ask, engine: Engine, called_by: str, chunk: Chunk, **more: Any
) -> AsyncIterator[str]:
    whole = await _choice(number, choice, ask, engine, called_by)
    if ask.tools:
        message = whole["message"]
        calls = [{"index": place, **call} for place, call in enumerate(message.pop("tool_calls", []))]
        yield chunk({**message, **({"tool_calls": calls} if calls else {})}, index=number)
    yield chunk({}, whole["finish_reason"], index=number, **more)
