"""Turns: what was asked, answered and decided."""

import asyncio
from typing import Any

from fastapi import APIRouter

from cluster.catalog import conversations
from cluster.domain.conversations import Turn
from serve_app.gateway import Gateway
from serve_app.routes.access import Caller, Parts, sees_all
from serve_app.routes.counting import CountedRoute

router = APIRouter(route_class=CountedRoute)


def find(parts: Gateway, turn_id: str, user: str | None) -> Turn:
    """The turn; with ``user``, only if it is theirs. Raises NotFound."""
    with parts.catalog.reading() as work:
        return conversations.turn(work, turn_id, user)


@router.get("/v1/turns/{turn_id}")
async def turn(turn_id: str, parts: Parts, caller: Caller) -> dict[str, Any]:
    """One turn, with the release that answered and everything decided on the way. Of others' turns nothing that rests on documents which
    are not for the caller."""
    found = await asyncio.to_thread(find, parts, turn_id, None if sees_all(caller) else caller.user)
    shown = found.shown_to(caller)
    if not sees_all(caller):  # what was kept from the user stays so; curators see what the model wrote
        for name in ("removed", "reasoning"):
            (shown.get("stripped") or {}).pop(name, None)
    return shown
