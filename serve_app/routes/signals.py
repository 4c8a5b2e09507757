"""Signals: what people say of a turn. Its own user may, and curators."""

import asyncio
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from cluster.catalog import conversations, signals
from cluster.domain.parsing import parse
from cluster.domain.signals import Signal
from cluster.errors import InvalidInput, near
from serve_app.gateway import Gateway
from serve_app.routes.access import Caller, Judge, Parts, sees_all
from serve_app.routes.counting import CountedRoute

router = APIRouter(route_class=CountedRoute)


class SignalRequest(BaseModel):
    """A judgement as clients send it; see ``cluster.domain.signals.Signal`` for what ``value`` may be."""

    model_config = ConfigDict(extra="forbid")

    turn_id: str
    kind: str
    value: Any = None


@router.post("/v1/signals", status_code=201)
async def give(body: SignalRequest, parts: Parts, caller: Judge) -> dict[str, Any]:
    """Keep a signal. 404 when the turn is not there or not yours."""
    signal: Signal = parse(Signal, {**body.model_dump(), "user": caller.user}, "signal")
    if signal.kind == "failed_validation":
        raise InvalidInput("A failed validation is noted by the service itself; send thumb, right_agent or ideal_answer.")
    known = [name for name in parts.live.agents if parts.live.may(name, caller)]
    if signal.kind == "right_agent" and signal.value is not None and signal.value not in known:
        close = near(signal.value, known)
        hint = f"did you mean {' or '.join(close)}?" if close else "null means out of scope."
        raise InvalidInput(f"There is no agent '{signal.value}'; {hint}")
    await asyncio.to_thread(_keep, parts, signal, None if sees_all(caller) else caller.user)
    return signal.model_dump(mode="json")


def _keep(parts: Gateway, signal: Signal, user: str | None) -> None:
    with parts.catalog.transaction() as work:
        conversations.turn(work, signal.turn_id, user)
        signals.record(work, [signal])


@router.get("/v1/signals")
async def read(parts: Parts, caller: Caller, turn_id: str | None = None, limit: int = 100) -> dict[str, Any]:
    """The signals on a turn; without ``turn_id``, the newest ones (curators: of everybody)."""
    found = await asyncio.to_thread(_read, parts, turn_id, min(max(limit, 1), 1000), None if sees_all(caller) else caller.user)
    return {"object": "list", "data": [signal.model_dump(mode="json") for signal in found]}


def _read(parts: Gateway, turn_id: str | None, limit: int, user: str | None) -> list[Signal]:
    with parts.catalog.reading() as work:
        if turn_id is not None:
            conversations.turn(work, turn_id, user)
            return signals.of_turns(work, [turn_id])
        if user is None:
            return signals.recent(work, limit)
        own = [turn.id for turn in conversations.recent(work, user, limit)]
        return signals.of_turns(work, own)[:limit]
