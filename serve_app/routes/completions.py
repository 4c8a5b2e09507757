"""/v1/completions as OpenAI defines it: a raw prompt, continued. No card prompt, no retrieval, no rules, and no turn is kept."""

import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field, model_validator

from cluster.domain.agents import GenerationSettings
from cluster.domain.base import new_id
from cluster.errors import InvalidInput, TreadleError
from serve_app.ask import AUTO, Ask
from serve_app.bases import Base
from serve_app.choices import Choice, together, whole
from serve_app.engine import Delta, GenerationRequest, TokenLogprob
from serve_app.gateway import Gateway, error_event
from serve_app.identity import Identity
from serve_app.routes.access import Caller, Parts
from serve_app.routes.counting import CountedRoute
from serve_app.routes.leaving import unless_left
from serve_app.routes.sampling import MOST_CHOICES, Sampling

log = logging.getLogger(__name__)
router = APIRouter(route_class=CountedRoute)
MOST_PROMPTS = 32
Text = Annotated[str, Field(min_length=1)]
Ids = Annotated[list[Annotated[int, Field(ge=0, lt=1 << 31)]], Field(min_length=1)]


class CompletionRequest(Sampling):
    """``prompt`` is a text, token ids, or a list of either."""

    prompt: (
        Text
        | Ids
        | Annotated[list[Text], Field(min_length=1, max_length=MOST_PROMPTS)]
        | Annotated[list[Ids], Field(min_length=1, max_length=MOST_PROMPTS)]
    )
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool | None = None
    best_of: int | None = Field(default=None, ge=1, le=MOST_CHOICES)
    suffix: Literal[""] | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> "CompletionRequest":
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise ValueError("best_of other than n is not offered")
        if self.echo and self.logprobs is not None:
            raise ValueError("echo with logprobs is not offered")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """One or many, as a list."""
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]
        return list(self.prompt)  # type: ignore[arg-type]


class Asked:
    """A request in the engine's words: one generation for each prompt and each of its ``n`` choices, in that order."""

    def __init__(self, body: CompletionRequest, base: Base, requests: list[GenerationRequest], echoes: list[str]) -> None:
        self.body, self.base, self.requests, self.echoes = body, base, requests, echoes
        self.id, self.created = new_id("cmpl"), int(time.time())
        prompts = {id(request.prompt_ids): len(request.prompt_ids) for request in requests}
        self.prompt_tokens = sum(prompts.values())

    def usage(self, completion: int) -> dict[str, int]:
        total = self.prompt_tokens + completion
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": completion, "total_tokens": total}

    def head(self) -> dict[str, Any]:
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.body.model}


async def _asked(parts: Gateway, body: CompletionRequest, caller: Identity) -> Asked:
    answering = parts.answering
    if body.model == AUTO:
        raise InvalidInput(
            "A completion cannot pick an agent by its question; name an agent, a release or the base instead of 'auto'."
        )
    bare = parts.bases.named(body.model)
    speaker = None if bare is not None else await parts.live.speaker(body.model, caller)
    base = bare or parts.bases.of(speaker.release if speaker else None)
    settings = speaker.card.generation if speaker else GenerationSettings()
    ask = Ask(
        user=caller.user,
        role=caller.role,
        model=body.model,
        messages=(),
        stream=bool(body.stream),
        seed=body.seed,
        overrides=body.overrides(body.max_tokens or 16),
        extra=body.extra(logprobs=body.logprobs),
    )
    requests: list[GenerationRequest] = []
    echoes: list[str] = []
    prompts = [_read(base, prompt) for prompt in body.prompts]
    await answering.check(caller.user, body.model, [read for _, _, read in prompts])
    for ids, text, _ in prompts:
        first = base.request(ids, settings, ask, speaker.adapter if speaker else None)
        requests += [first, *answering.more(first, (body.n or 1) - 1)]
        echoes += [text if body.echo else ""] * (body.n or 1)
    return Asked(body, base, requests, echoes)


def _read(base: Base, prompt: str | list[int]) -> tuple[list[int], str, str]:
    """A prompt's ids, its text, and the text that the guard reads: template marks pass it as token ids only, which is how a prompt
    that one rendered oneself is sent."""
    tokenizer = base.tokenizer
    if isinstance(prompt, str):
        return list(tokenizer.encode(prompt)), prompt, prompt
    size = len(tokenizer)
    if max(prompt) >= size:
        raise InvalidInput(f"The prompt holds token {max(prompt)}; the model's tokens are 0 to {size - 1}.")
    return prompt, tokenizer.decode(prompt), tokenizer.decode(prompt, skip_special_tokens=True)


@router.post("/v1/completions", response_model=None)
async def complete(body: CompletionRequest, request: Request, parts: Parts, caller: Caller) -> JSONResponse | StreamingResponse:
    """Continue a prompt. ``model``: an agent (its adapter alone), agent@version, agent@base, or a base model."""
    asked = await _asked(parts, body, caller)
    streams = [parts.answering.counted(asked.base, one, caller.user, len(one.prompt_ids)) for one in asked.requests]
    if body.stream:
        first = await anext(streams[0])
        events = _events(parts, asked, [_again(first, streams[0]), *streams[1:]])
        return StreamingResponse(events, media_type="text/event-stream")
    return JSONResponse(await unless_left(request, _whole(parts, asked, streams)))


async def _again(first: Delta, rest: AsyncIterator[Delta]) -> AsyncIterator[Delta]:
    """A stream of which the first piece was taken already, to learn whether there is one before the status line goes out."""
    yield first
    async for delta in rest:
        yield delta


async def _whole(parts: Gateway, asked: Asked, streams: list[AsyncIterator[Delta]]) -> dict[str, Any]:
    choices = await whole(streams)
    bodies = [
        _choice(number, echo + choice.text, choice.finish_reason, choice.logprobs if asked.body.logprobs is not None else None)
        for number, (echo, choice) in enumerate(zip(asked.echoes, choices, strict=True))
    ]
    written = sum(choice.tokens for choice in choices)
    parts.meters.tokens(asked.prompt_tokens, written)
    return {**asked.head(), "choices": bodies, "usage": asked.usage(written)}


def _choice(number: int, text: str, reason: str | None, logprobs: list[TokenLogprob] | None, offset: int = 0) -> dict[str, Any]:
    return {"index": number, "text": text, "finish_reason": reason, "logprobs": _logprobs(logprobs, offset)}


def _logprobs(found: list[TokenLogprob] | None, offset: int) -> dict[str, Any] | None:
    """As OpenAI's completions write them: columns, not rows."""
    if found is None:
        return None
    offsets = []
    for one in found:
        offsets.append(offset)
        offset += len(one.token)
    return {
        "tokens": [one.token for one in found],
        "token_logprobs": [one.logprob for one in found],
        "top_logprobs": [dict(one.top) for one in found],
        "text_offset": offsets,
    }


async def _events(parts: Gateway, asked: Asked, streams: list[AsyncIterator[Delta]]) -> AsyncIterator[str]:
    head = f"data: {json.dumps(asked.head())[:-1]}, "
    choices = [Choice() for _ in streams]
    echoes = list(asked.echoes)
    try:
        async for number, delta in together(streams):
            choice = choices[number]
            offset = len(choice.text)
            choice.take(delta)
            found = list(delta.logprobs or ()) if asked.body.logprobs is not None else None
            body = _choice(number, echoes[number] + delta.text, delta.finish_reason, found, offset)
            echoes[number] = ""
            yield f"{head}{json.dumps({'choices': [body]})[1:]}\n\n"
    except TreadleError as error:
        yield error_event(error)
        return
    except Exception:  # the edge: the status line is out, so the stream itself has to say it
        log.exception("a stream broke")
        yield error_event(None)
        return
    written = sum(choice.tokens for choice in choices)
    parts.meters.tokens(asked.prompt_tokens, written)
    if asked.body.usage:
        yield f"{head}{json.dumps({'choices': [], 'usage': asked.usage(written)})[1:]}\n\n"
    yield "data: [DONE]\n\n"
