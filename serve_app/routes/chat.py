"""/v1/chat/completions as OpenAI defines it, with a ``treadle`` object in the request and in the answer."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cluster.catalog import conversations
from cluster.domain.base import Frozen
from cluster.domain.conversations import Message
from cluster.errors import NotFound, TreadleError
from serve_app.answering import Answer, Ask
from serve_app.gateway import Gateway, error_body
from serve_app.identity import Identity
from serve_app.routes.access import Caller, Parts

log = logging.getLogger(__name__)
router = APIRouter()


class TextPart(BaseModel):
    """A part of a message's content; only text is understood."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A message as clients send it."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class Extension(Frozen):
    """Treadle's own wishes: ``record`` False leaves no turn behind."""

    retrieve: bool = True
    record: bool = True
    conversation_id: str | None = Field(default=None, max_length=40)


class StreamOptions(BaseModel):
    include_usage: bool = False


class ChatRequest(BaseModel):
    """The fields that are used; others that OpenAI knows are accepted and have no effect."""

    model_config = ConfigDict(extra="ignore")

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    stop: list[str] | None = Field(default=None, max_length=8)
    seed: int | None = None
    n: Literal[1] | None = None
    treadle: Extension = Extension()

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _asks_something(self) -> "ChatRequest":
        last = self.messages[-1]
        if last.role != "user" or not last.text.strip():
            raise ValueError("the last message must be the user's and hold text")
        return self

    def ask(self, caller: Identity) -> Ask:
        """The request in our words."""
        given = {
            "max_tokens": self.max_completion_tokens or self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "stop": self.stop,
        }
        messages = (Message(role="system" if one.role == "developer" else one.role, content=one.text) for one in self.messages)
        return Ask(
            user=caller.user,
            role=caller.role,
            model=self.model,
            messages=tuple(messages),
            conversation_id=self.treadle.conversation_id,
            retrieve=self.treadle.retrieve,
            record=self.treadle.record,
            stream=self.stream,
            seed=self.seed,
            overrides={name: value for name, value in given.items() if value is not None},
        )


@router.post("/v1/chat/completions", response_model=None)
async def chat(body: ChatRequest, parts: Parts, caller: Caller) -> JSONResponse | StreamingResponse:
    """Answer a question. ``model``: auto, an agent, agent@version, agent@base, or the base model."""
    ask = body.ask(caller)
    if ask.conversation_id is not None:
        await asyncio.to_thread(_check_conversation, parts, ask)
    answer = await parts.answering.begin(ask)
    created = int(time.time())
    if body.stream:
        usage = body.stream_options is not None and body.stream_options.include_usage
        return StreamingResponse(_events(answer, ask.model, created, usage), media_type="text/event-stream")
    async for _ in answer.deltas():
        pass
    choice = {"index": 0, "message": {"role": "assistant", "content": answer.text}, "finish_reason": answer.finish_reason}
    whole = {"id": answer.id, "object": "chat.completion", "created": created, "model": ask.model, "choices": [choice]}
    return JSONResponse({**whole, "usage": _usage(answer), "treadle": answer.about})


def _check_conversation(parts: Gateway, ask: Ask) -> None:
    with parts.catalog.reading() as work:
        owner = conversations.owner(work, ask.conversation_id or "")
    if owner != ask.user:
        raise NotFound(f"There is no conversation '{ask.conversation_id}' of yours; leave it out to begin a new one.")


def _usage(answer: Answer) -> dict[str, int]:
    prompt, completion = answer.tokens["prompt"], answer.tokens["completion"]
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def _events(answer: Answer, model: str, created: int, usage: bool) -> AsyncIterator[str]:
    """Server-sent events. Only the text differs from one event to the next, so the rest is written once."""
    head = {"id": answer.id, "object": "chat.completion.chunk", "created": created, "model": model}
    start = f"data: {json.dumps(head)[:-1]}, "

    def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> str:
        rest = {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more}
        return f"{start}{json.dumps(rest)[1:]}\n\n"

    role: dict[str, Any] = {"role": "assistant"}
    try:
        async for text in answer.deltas():
            if text or role:
                yield chunk({**role, "content": text})
                role = {}
    except TreadleError as error:
        yield f"data: {json.dumps(error_body(error.status_code, error.message))}\n\n"
        return
    except Exception:  # the edge: the status line is out, so the stream itself has to say it
        log.exception("a stream broke")
        yield f"data: {json.dumps(error_body(500, 'The answer broke off; ask again.'))}\n\n"
        return
    yield chunk(role, answer.finish_reason, treadle=answer.about)
    if usage:
        yield f"{start}{json.dumps({'choices': [], 'usage': _usage(answer)})[1:]}\n\n"
    yield "data: [DONE]\n\n"
