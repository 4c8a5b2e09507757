"""Health, open to everybody: says that it lives and whether it can answer, and nothing else."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from serve_app.routes.access import Caller, Parts

router = APIRouter()


@router.get("/health")
async def health() -> dict[str, str]:
    """The process lives."""
    return {"status": "ok"}


@router.get("/health/ready")
async def ready(parts: Parts) -> JSONResponse:
    """200 when questions can be answered, else 503."""
    return JSONResponse({"status": "ready" if parts.ready else "starting"}, 200 if parts.ready else 503)


@router.get("/health/detailed")
async def detailed(parts: Parts, caller: Caller) -> dict[str, Any]:
    """Who answers for each agent, and what could not be taken into use; of agents that the caller may use."""
    live = parts.live
    shown = [name for name in live.agents if live.may(name, caller)]
    champions = {name: None if name in live.problems else live.champion(name).ref for name in shown}
    problems = {name: said for name, said in live.problems.items() if name in shown or name not in live.agents}
    head = parts.answering.head
    return {"ready": parts.ready, "agents": champions, "router": head.ref if head else None, "problems": problems}
