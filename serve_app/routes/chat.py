"""/v1/chat/completions as OpenAI defines it, with a ``treadle`` object in the request and in the answer."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from cluster.catalog import conversations
from cluster.errors import NotFound, TreadleError
from serve_app.answer import Answer
from serve_app.answering_once import once
from serve_app.ask import AUTO, Ask
from serve_app.gateway import Gateway, error_event
from serve_app.routes.access import Caller, Parts
from serve_app.routes.chat_choices import choice_chunks, whole_choices
from serve_app.routes.chat_request import ChatRequest
from serve_app.routes.counting import CountedRoute
from serve_app.routes.leaving import unless_left

log = logging.getLogger(__name__)
router = APIRouter(route_class=CountedRoute)


@router.post("/v1/chat/completions", response_model=None)
async def chat(body: ChatRequest, request: Request, parts: Parts, caller: Caller) -> Response:
    """Answer a question. ``model``: auto, an agent, agent@version, agent@base, or a base model."""
    ask = body.ask(caller)
    return await once(request, parts.catalog, caller.user, body, lambda: answered(parts, request, body, ask))


async def answered(parts: Gateway, request: Request, body: ChatRequest, ask: Ask, checked: bool = False) -> Response:
    """The answer, whole or streamed. ``checked`` says that the conversation is known to be the user's, or not there yet."""
    if ask.conversation_id is not None and not checked:
        ask = await asyncio.to_thread(check_conversation, parts, ask)
    if not ask.stream:
        return JSONResponse(await unless_left(request, completion(parts, ask, body.called)))
    answer = await parts.answering.begin(ask)
    return StreamingResponse(events(parts, answer, ask, body.usage, body.called), media_type="text/event-stream")


def check_conversation(parts: Gateway, ask: Ask) -> Ask:
    """The question, with its conversation's last turn where that matters. Raises NotFound unless that is there and the user's."""
    own = ask.conversation_id or ""
    with parts.catalog.reading() as work:
        owner, last = conversations.standing(work, own) if ask.model == AUTO else (conversations.owner(work, own), None)
    if owner != ask.user:
        raise NotFound(f"There is no conversation '{ask.conversation_id}' of yours; leave it out to begin a new one.")
    return replace(ask, last=last)


def is_plain(ask: Ask) -> bool:
    """One choice of text and nothing more, as nearly all are."""
    return ask.choices == 1 and not ask.tools and (ask.extra is None or "logprobs" not in ask.extra)


async def completion(parts: Gateway, ask: Ask, called_by: str = "auto") -> dict[str, Any]:
    """The whole answer as a body."""
    answer = await parts.answering.begin(ask)
    if is_plain(ask):
        async for _ in answer.deltas():
            pass
        message = {"role": "assistant", "content": answer.text}
        choices = [{"index": 0, "message": message, "finish_reason": answer.finish_reason}]
    else:
        choices = await whole_choices(answer, ask, called_by)
    whole = {"id": answer.id, "object": "chat.completion", "created": int(time.time()), "model": ask.model, "choices": choices}
    return {**whole, "usage": _usage(answer), "treadle": answer.about}


def _usage(answer: Answer) -> dict[str, int]:
    prompt, completion = answer.tokens["prompt"], answer.tokens["completion"]
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def events(parts: Gateway, answer: Answer, ask: Ask, usage: bool, called_by: str = "auto") -> AsyncIterator[str]:
    """Server-sent events. Only the text differs from one event to the next, so the rest is written once."""
    head = {"id": answer.id, "object": "chat.completion.chunk", "created": int(time.time()), "model": ask.model}
    start = f"data: {json.dumps(head)[:-1]}, "

    def chunk(delta: dict[str, Any], reason: str | None = None, index: int = 0, **more: Any) -> str:
        choice = {"index": index, "delta": delta, "finish_reason": reason}
        if "logprobs" in more:
            choice["logprobs"] = more.pop("logprobs")
        return f"{start}{json.dumps({'choices': [choice], **more})[1:]}\n\n"

    role: dict[str, Any] = {"role": "assistant"}
    try:
        if is_plain(ask):
            async for delta in answer.deltas():
                if delta.text or role:
                    yield chunk({**role, "content": delta.text})
                    role = {}
            yield chunk(role, answer.finish_reason, treadle=answer.about)
        else:
            async for text in choice_chunks(answer, ask, called_by, chunk):
                yield text
    except TreadleError as error:
        yield error_event(error)
        return
    except Exception:  # the edge: the status line is out, so the stream itself has to say it
        log.exception("a stream broke")
        yield error_event(None)
        return
    if usage:
        yield f"{start}{json.dumps({'choices': [], 'usage': _usage(answer)})[1:]}\n\n"
    yield "data: [DONE]\n\n"
