"""The audit log, for admins."""

import asyncio
from typing import Any

from fastapi import APIRouter, Query

from cluster.catalog import audit
from cluster.domain.audit import AuditEntry
from serve_app.gateway import Gateway
from serve_app.routes.access import Admin, Parts

router = APIRouter()


@router.get("/v1/audit")
async def read(
    parts: Parts,
    caller: Admin,
    user: str | None = None,
    action: str | None = None,
    limit: int = Query(default=100, ge=1, le=1000),
) -> dict[str, Any]:
    """The newest entries first; of one user, or of one kind of action."""
    found = await asyncio.to_thread(_read, parts, limit, user, action)
    return {"object": "list", "data": [entry.model_dump(mode="json") for entry in found]}


def _read(parts: Gateway, limit: int, user: str | None, action: str | None) -> list[AuditEntry]:
    with parts.catalog.reading() as work:
        return audit.recent(work, limit, user, action)
