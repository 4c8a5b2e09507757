"""The service's live settings: admins change them while it answers."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from cluster.accounts import Actor
from cluster.catalog import agents, live_settings
from cluster.domain.live_settings import ServiceSettings
from serve_app.gateway import Gateway
from serve_app.routes.access import Admin, Parts, origin

router = APIRouter()


@router.get("/v1/settings")
async def read(parts: Parts, caller: Admin) -> dict[str, Any]:
    """As they are in the catalog."""
    return (await asyncio.to_thread(_read, parts)).model_dump(mode="json")


def _read(parts: Gateway) -> ServiceSettings:
    with parts.catalog.reading() as work:
        return live_settings.of_service(work)


@router.put("/v1/settings")
async def replace(body: ServiceSettings, request: Request, parts: Parts, caller: Admin) -> dict[str, Any]:
    """Replace them: in force within a second on every replica. 404 for a default agent that there is not."""
    await asyncio.to_thread(_replace, parts, Actor(caller.user, origin(request)), body)
    return body.model_dump(mode="json")


def _replace(parts: Gateway, actor: Actor, settings: ServiceSettings) -> None:
    with parts.catalog.transaction() as work:
        if settings.default_agent is not None:
            agents.get(work, settings.default_agent)
        if settings.guard_policy is not None:
            parts.answering.guard.known(settings.guard_policy)
        live_settings.save_service(work, settings)
        actor.note(work, "settings.change", "service", **settings.model_dump(mode="json"))
