"""Health: that it lives and whether it can answer, open to everybody; the details are for admins."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

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
    engine = await parts.answering.engine.state()
    return {
        "ready": parts.ready,
        "replica": parts.meter_book.replica,
        "agents": champions,
        "router": head.ref if head else None,
        "engine": {"running": engine.running, "written": engine.written, "adapters": list(engine.adapters)},
        "problems": live.problems,
    }
