"""Agents as they are shown, and their live settings, which admins change while the agents answer."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from cluster.accounts import Actor
from cluster.catalog import agents, live_settings
from cluster.domain.agents import Agent
from cluster.domain.live_settings import AgentSettings
from cluster.errors import NotFound, near
from serve_app.gateway import Gateway
from serve_app.identity import Identity
from serve_app.routes.access import Admin, Caller, Parts, origin

router = APIRouter()
Found = tuple[Agent, AgentSettings]


def _shown(card: Agent, settings: AgentSettings, caller: Identity) -> dict[str, Any]:
    """Everybody sees what the agent is; who may use it and what was changed, only admins."""
    seen = settings.over(card)
    value = {
        "name": seen.name,
        "display_name": seen.display_name,
        "description": seen.description,
        "visible": seen.visible,
        "generation": seen.generation.model_dump(mode="json"),
    }
    return {**value, "settings": settings.model_dump(mode="json")} if "admin" in caller.scopes else value


@router.get("/v1/agents")
async def list_agents(parts: Parts, caller: Caller) -> dict[str, Any]:
    """The agents that the caller may use; those that are not visible only for admins."""
    found = await asyncio.to_thread(_all, parts)
    shown = [_shown(card, settings, caller) for card, settings in found if settings.access.allows(caller)]
    return {"object": "list", "data": [one for one in shown if one["visible"] or "admin" in caller.scopes]}


def _all(parts: Gateway) -> list[Found]:
    with parts.catalog.reading() as work:
        changed = live_settings.of_agents(work)
        return [(card, changed.get(card.name, AgentSettings())) for card in agents.everyone(work)]


@router.get("/v1/agents/{name}")
async def agent(name: str, parts: Parts, caller: Caller) -> dict[str, Any]:
    """One of them. 404 when it is not there or not for the caller."""
    found = await asyncio.to_thread(_all, parts)
    for card, settings in found:
        if card.name == name and settings.access.allows(caller):
            return _shown(card, settings, caller)
    close = near(name, [card.name for card, settings in found if settings.access.allows(caller)])
    raise NotFound(f"There is no agent '{name}'; {f'did you mean {close[0]}?' if close else 'GET /v1/agents lists them.'}")


@router.patch("/v1/agents/{name}")
async def change(name: str, body: AgentSettings, request: Request, parts: Parts, caller: Admin) -> dict[str, Any]:
    """Change live settings: in force within a second on every replica, for who asks the agent by name and for ``auto``.

    What is left out stays; null goes back to what the card says.
    """
    actor = Actor(caller.user, origin(request))
    card, settings = await asyncio.to_thread(_change, parts, actor, name, body)
    return _shown(card, settings, caller)


def _change(parts: Gateway, actor: Actor, name: str, body: AgentSettings) -> Found:
    given = body.model_dump(mode="json", exclude_unset=True)
    with parts.catalog.transaction() as work:
        card = agents.get(work, name)
        kept = live_settings.of_agent(work, name).model_dump(mode="json")
        whole = {**kept, **given, "generation": {**kept["generation"], **given.get("generation", {})}}
        settings = AgentSettings.model_validate(whole)
        if settings.guard_policy is not None:
            parts.answering.guard.known(settings.guard_policy)
        live_settings.save_agent(work, name, settings)
        actor.note(work, "agent.change", name, **given)
    return card, settings
