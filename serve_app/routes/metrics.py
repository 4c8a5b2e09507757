"""/metrics for Prometheus: the sum over all replicas. For curators and admins; Prometheus sends a key as its bearer credentials."""

import asyncio

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from cluster.errors import Forbidden
from serve_app.routes.access import Caller, Parts, sees_all
from serve_app.routes.counting import CountedRoute

router = APIRouter(route_class=CountedRoute)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(parts: Parts, caller: Caller) -> PlainTextResponse:
    """Counters of requests, answers, tokens, times, broken rules and refused questions."""
    if not sees_all(caller):
        raise Forbidden(
            "Metrics are for curators and admins; make a key for Prometheus: treadle keys create NAME --role curator."
        )
    text = await asyncio.to_thread(parts.meter_book.text)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")
