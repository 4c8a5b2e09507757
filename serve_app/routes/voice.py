"""Voice assistants: their custom-LLM requests, and the reports that end their calls.

A voice platform takes ``…/v1/voice`` as the base URL of its custom LLM. All turns of a call are one conversation. When a call was
answered elsewhere, or in part, its signed end-of-call report makes it a conversation like any other: it can be judged and learnt from.
"""

import asyncio
import json
import time
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cluster.catalog import conversations, signals
from cluster.domain.conversations import LastTurn
from cluster.domain.parsing import parse
from cluster.errors import Forbidden, InvalidInput, NotFound, Unavailable, near
from serve_app import voice
from serve_app.ask import AUTO, Ask
from serve_app.gateway import Gateway
from serve_app.routes.access import Caller, Parts
from serve_app.routes.chat import answered
from serve_app.routes.chat_request import ChatRequest, Extension
from serve_app.routes.counting import CountedRoute, check_characters
from serve_app.validator import signals_of

router = APIRouter(route_class=CountedRoute)
MOST_BYTES = 4 << 20
NOTES = 16
Json = dict[str, Any]


class Call(BaseModel):
    """The call as platforms describe it; what is not named here is not looked at."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field(min_length=1, max_length=200)
    customer: Json | None = None
    metadata: Json | None = None


def notes(call: Call, *more: Json | None) -> dict[str, str]:
    """What is kept of a call's metadata on its turns: plain values, 16 of them, no longer than 512 characters."""
    found = {"call": call.id}
    places = [("customer.", call.customer or {}), ("", call.metadata or {}), *(("", one or {}) for one in more)]
    for prefix, values in places:
        for key, value in values.items():
            if isinstance(value, str | int | float | bool) and len(found) < NOTES:
                found[f"{prefix}{key}"[:64]] = str(value)[:512]
    return found


class VoiceRequest(ChatRequest):
    """A chat completion's request with the ``call`` it belongs to. Tools of the platform (transfer, hang up) are not offered to agents."""

    call: Call | None = None
    customer: Json | None = None
    metadata: Json | None = None  # type: ignore[assignment]

    @model_validator(mode="before")
    @classmethod
    def _speaks_only(cls, value: Any) -> Any:
        return (
            {key: inner for key, inner in value.items() if key not in ("tools", "tool_choice")}
            if isinstance(value, dict)
            else value
        )


@router.post("/v1/voice/chat/completions", response_model=None)
async def chat(body: VoiceRequest, request: Request, parts: Parts, caller: Caller) -> Response:
    """Answer in a call. Without ``call`` it is a chat completion."""
    given = body.metadata
    plain = body.model_copy(update={"metadata": None})
    if body.call is None:
        return await answered(parts, request, plain, plain.ask(caller))
    call = body.call.model_copy(update={"customer": body.call.customer or body.customer})
    own = voice.conversation_of(call.id)
    owner, last = await asyncio.to_thread(_standing, parts, own)
    if owner not in (None, caller.user):
        raise NotFound(f"The call '{call.id}' is not yours; every call has an id of its own.")
    extension = Extension(**{**plain.treadle.model_dump(), "conversation_id": own})
    asked = plain.model_copy(update={"metadata": notes(call, given), "treadle": extension})
    return await answered(parts, request, asked, replace(asked.ask(caller), last=last), checked=True)


def _standing(parts: Gateway, conversation_id: str) -> tuple[str | None, LastTurn | None]:
    with parts.catalog.reading() as work:
        return conversations.standing(work, conversation_id)


class Spoken(BaseModel):
    """A stretch of the transcript; platforms write its text as ``message`` or ``content``."""

    model_config = ConfigDict(extra="ignore")

    role: str = Field(max_length=40)
    message: str | None = None
    content: str | None = None


class Artifact(BaseModel):
    model_config = ConfigDict(extra="ignore")

    messages: Annotated[list[Spoken], Field(max_length=5000)] = []


class Report(BaseModel):
    """What comes at the end of a call. ``agent`` names whose conversation it becomes; without it the default agent's."""

    model_config = ConfigDict(extra="ignore")

    type: str = Field(default="end-of-call-report", max_length=80)
    call: Call | None = None
    agent: str | None = Field(default=None, max_length=64)
    artifact: Artifact = Artifact()
    messages: Annotated[list[Spoken], Field(max_length=5000)] = []

    def said(self) -> list[voice.Said]:
        """The transcript without what is neither the caller's nor the assistant's."""
        caller, assistant = ("user", "customer", "caller"), ("assistant", "bot")
        return [
            voice.Said(one.role in caller, one.message or one.content or "")
            for one in self.messages or self.artifact.messages
            if one.role in (*caller, *assistant)
        ]


@router.post("/v1/voice/webhook", status_code=201)
async def report(request: Request, parts: Parts) -> Json:
    """Keep a call that has ended. The body is signed (``X-Treadle-Signature``); messages of other types are let pass."""
    secret = parts.settings.router.voice_secret.get_secret_value()
    if not secret:
        raise Forbidden("Reports of calls are not taken here; set router.voice_secret (32 characters or more) to take them.")
    body = await _body(request)
    voice.check_signature(secret, request.headers.get("x-treadle-signature"), body, time.time())
    try:
        value = await asyncio.to_thread(_json, body)
    except (ValueError, RecursionError):
        raise InvalidInput('The report is no JSON object; send one as {"message": {"type": "end-of-call-report", …}}.') from None
    sent: Report = parse(Report, value.get("message", value), "the report")
    if sent.type != "end-of-call-report":
        return {"status": "ignored", "type": sent.type}
    return await asyncio.to_thread(_keep, parts, sent)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            raise InvalidInput(f"The report is larger than {MOST_BYTES >> 20} MiB; send the transcript without recordings.")
    return bytes(body)


def _json(body: bytes) -> Json:
    check_characters(body)
    value = json.loads(body)
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def _keep(parts: Gateway, sent: Report) -> Json:
    live = parts.live
    if sent.call is None:
        raise InvalidInput("The report names no call; send its 'call' with an 'id'.")
    if sent.agent is not None and sent.agent not in live.agents:
        close = near(sent.agent, live.agents)
        raise InvalidInput(f"There is no agent '{sent.agent}'" + (f"; did you mean {' or '.join(close)}?" if close else "."))
    nobody = Ask(user=parts.settings.router.voice_user, model=AUTO, messages=())
    card = live.agents[sent.agent] if sent.agent else live.default(nobody)
    if card is None:
        raise Unavailable("There is no agent yet whose conversation the call could be; create one with: treadle agents create")
    own = voice.conversation_of(sent.call.id)
    with parts.catalog.transaction() as work:
        known = conversations.of_conversation(work, own)
        user = conversations.owner(work, own) or parts.settings.router.voice_user
        made = voice.turns_of(sent.call.id, user, card, sent.said(), notes(sent.call), known)
        conversations.record(work, made)
        signals.record(work, [signal for turn in made for signal in signals_of(turn)])
    return {"status": "kept", "conversation_id": own, "turns": len(known) + len(made), "new": len(made)}
