"""Experiments: started, looked at and stopped by curators and admins."""

import asyncio
from typing import Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from cluster import experiments as trying
from cluster.accounts import Actor
from cluster.catalog import experiments
from cluster.domain.conversations import Turn
from cluster.domain.experiment_results import ExperimentResults
from cluster.domain.experiments import Experiment, ExperimentSettings, Kind
from cluster.errors import Forbidden
from serve_app.gateway import Gateway
from serve_app.identity import Identity
from serve_app.releases import TRIAL
from serve_app.routes.access import Caller, Curator, Parts, origin, sees_all
from serve_app.routes.counting import CountedRoute

router = APIRouter(route_class=CountedRoute)


class StartRequest(BaseModel):
    """``challenger``: ``agent@version``. Without a ``share``: 0.5 of a split, 0.1 of a canary, all of a shadow."""

    model_config = ConfigDict(extra="forbid")

    challenger: str = Field(max_length=128)
    kind: Kind = "split"
    share: float | None = Field(default=None, gt=0.0, le=1.0)
    settings: ExperimentSettings = ExperimentSettings()


class StopRequest(BaseModel):
    """Why, for the record."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="stopped by hand", min_length=1, max_length=400)


def _sees(caller: Identity) -> None:
    if not sees_all(caller):
        raise Forbidden(f"Experiments are for curators and admins, and '{caller.user}' is a {caller.role}.")


@router.post("/v1/experiments", status_code=201)
async def start(body: StartRequest, request: Request, parts: Parts, caller: Curator) -> dict[str, Any]:
    """Put a release on trial: in force within a second on every replica, once the release is loaded there. 409 while another experiment
    of the agent is running."""
    made = await asyncio.to_thread(_start, parts, Actor(caller.user, origin(request)), body)
    return made.model_dump(mode="json")


def _start(parts: Gateway, actor: Actor, body: StartRequest) -> Experiment:
    with parts.catalog.transaction() as work:
        return trying.start(work, actor, body.challenger, body.kind, body.share, body.settings.model_dump())


@router.get("/v1/experiments")
async def list_experiments(parts: Parts, caller: Caller, agent: str | None = None) -> dict[str, Any]:
    """All, or those of an agent, the newest first."""
    _sees(caller)
    found = await asyncio.to_thread(_all, parts, agent)
    return {"object": "list", "data": [one.model_dump(mode="json") for one in found]}


def _all(parts: Gateway, agent: str | None) -> list[Experiment]:
    with parts.catalog.reading() as work:
        return experiments.everything(work, agent)


@router.get("/v1/experiments/{id}")
async def show(id: str, parts: Parts, caller: Caller) -> dict[str, Any]:
    """What it shows so far; ``problem`` is what keeps its challenger from answering here."""
    _sees(caller)
    found = await asyncio.to_thread(_found, parts, id)
    return {**found.model_dump(mode="json"), "problem": parts.live.problems.get(TRIAL + found.experiment.id)}


def _found(parts: Gateway, id: str) -> ExperimentResults:
    with parts.catalog.reading() as work:
        return trying.found(work, experiments.get(work, id))


@router.get("/v1/experiments/{id}/answers")
async def answers(id: str, parts: Parts, caller: Caller, limit: int = Query(default=20, ge=1, le=200)) -> dict[str, Any]:
    """Of a shadow: the newest questions with the answer of the champion, which was given, and of the challenger, which nobody saw."""
    _sees(caller)
    pairs = await asyncio.to_thread(_shadowed, parts, id, limit)
    return {"object": "list", "data": [_pair(*pair) for pair in pairs]}


def _shadowed(parts: Gateway, id: str, limit: int) -> list[tuple[Turn, Turn]]:
    with parts.catalog.reading() as work:
        return experiments.shadowed(work, experiments.get(work, id).id, limit)


def _pair(champion: Turn, challenger: Turn) -> dict[str, Any]:
    sides = {"champion": champion, "challenger": challenger}
    told = {arm: one.model_dump(mode="json", include={"release", "answer", "validation"}) for arm, one in sides.items()}
    return {"turn_id": champion.id, "question": champion.question, **told}


@router.post("/v1/experiments/{id}/stop")
async def stop(id: str, body: StopRequest, request: Request, parts: Parts, caller: Curator) -> dict[str, Any]:
    """The champion answers all again, within a second on every replica. 409 when it has ended already."""
    ended = await asyncio.to_thread(_stop, parts, Actor(caller.user, origin(request)), id, body.reason)
    return ended.model_dump(mode="json")


def _stop(parts: Gateway, actor: Actor, id: str, reason: str) -> Experiment:
    with parts.catalog.transaction() as work:
        return trying.stop(work, actor, id, reason)
