"""Health: that it lives and whether it can answer, open to everybody; the details are for admins."""

import asyncio
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from cluster.errors import TreadleError
from serve_app.bases import Base
from serve_app.engine import EngineState
from serve_app.routes.access import Admin, Parts
from serve_app.routes.counting import CountedRoute

router = APIRouter(route_class=CountedRoute)


@router.get("/health")
async def health() -> dict[str, str]:
    """The process lives."""
    return {"status": "ok"}


@router.get("/health/ready")
async def ready(parts: Parts) -> JSONResponse:
    """200 when questions can be answered, else 503."""
    return JSONResponse({"status": "ready" if parts.ready else "starting"}, 200 if parts.ready else 503)


@router.get("/health/detailed")
async def detailed(parts: Parts, caller: Admin) -> dict[str, Any]:
    """For admins: who answers for each agent, what the engine does, and what could not be taken into use."""
    live = parts.live
    champions = {name: None if name in live.problems else live.champion(name).ref for name in live.agents}
    head = parts.answering.head
    found = await asyncio.gather(*(_state(base) for base in parts.bases))
    states = dict(zip(parts.bases.names, found, strict=True))
    known = [state for state in states.values() if isinstance(state, EngineState)]
    if not known:
        raise next(state for state in states.values() if isinstance(state, TreadleError))
    return {
        "ready": parts.ready,
        "replica": parts.meter_book.replica,
        "agents": champions,
        "router": head.ref if head else None,
        "engine": _together(known),
        "bases": {
            name: _together([one]) if isinstance(one, EngineState) else {"problem": one.message} for name, one in states.items()
        },
        "problems": live.problems,
    }


async def _state(base: Base) -> EngineState | TreadleError:
    try:
        return await base.engine.state()
    except TreadleError as error:
        return error


def _together(states: list[EngineState]) -> dict[str, Any]:
    """What some engines do, summed up."""
    return {
        "running": sum(one.running for one in states),
        "written": sum(one.written for one in states),
        "adapters": [name for one in states for name in one.adapters],
        "quarantined": {name: reason for one in states for name, reason in one.quarantined},
    }
