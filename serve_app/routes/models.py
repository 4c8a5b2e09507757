"""/v1/models: every name that answers."""

from typing import Any

from fastapi import APIRouter

from serve_app.routes.access import Caller, Parts
from serve_app.routes.counting import CountedRoute

router = APIRouter(route_class=CountedRoute)


def _card(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "treadle"}


@router.get("/v1/models")
async def models(parts: Parts, caller: Caller) -> dict[str, Any]:
    """auto, agents, ``agent@base``, releases, and the base models."""
    return {"object": "list", "data": [_card(name) for name in await parts.live.names(caller)]}


@router.get("/v1/models/{name:path}")
async def model(name: str, parts: Parts, caller: Caller) -> dict[str, Any]:
    """One of them."""
    if name not in await parts.live.names(caller):
        raise await parts.live.unknown(name, caller)
    return _card(name)
