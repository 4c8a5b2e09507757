"""API keys: one's own, and everybody's for admins. A key's text is shown once, in the answer that makes it."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from cluster import accounts
from cluster.accounts import MOST_DAYS, Actor
from cluster.catalog import users
from cluster.domain.base import Name
from cluster.domain.users import ApiKey, Role, Scope
from cluster.errors import Forbidden
from serve_app.gateway import Gateway
from serve_app.identity import Identity
from serve_app.routes.access import KeyHolder, Parts, origin

router = APIRouter()


class NewKey(BaseModel):
    """Admins may make keys for others, of any role. ``scopes`` None: all that the maker's credential has."""

    model_config = ConfigDict(extra="forbid")

    user: Name | None = None
    role: Role | None = None
    scopes: list[Scope] | None = Field(default=None, min_length=1, max_length=5)
    days: float | None = Field(default=None, gt=0, le=MOST_DAYS, allow_inf_nan=False)


def _shown(key: ApiKey) -> dict[str, Any]:
    return key.model_dump(mode="json", exclude={"hash"})


@router.get("/v1/keys")
async def list_keys(parts: Parts, caller: KeyHolder) -> dict[str, Any]:
    """One's own keys by prefix; admins: everybody's."""
    found = await asyncio.to_thread(_keys, parts, None if "admin" in caller.scopes else caller.user)
    return {"object": "list", "data": [_shown(key) for key in found]}


def _keys(parts: Gateway, user: str | None) -> list[ApiKey]:
    with parts.catalog.reading() as work:
        return users.keys(work, user)


@router.post("/v1/keys", status_code=201)
async def create(body: NewKey, request: Request, parts: Parts, caller: KeyHolder) -> dict[str, Any]:
    """A new key. Unless an admin makes it, it can do no more, and lives no longer, than the key or token that makes it."""
    text, key = await asyncio.to_thread(_create, parts, Actor(caller.user, origin(request)), body, caller)
    return {"key": text, **_shown(key)}


def _create(parts: Gateway, actor: Actor, body: NewKey, caller: Identity) -> tuple[str, ApiKey]:
    user, role = body.user or caller.user, body.role or ("user" if body.user else caller.role)
    scopes = body.scopes
    if "admin" not in caller.scopes:
        if user != caller.user or role != caller.role:
            raise Forbidden("Keys of others and of other roles are made by admins; leave out 'user' and 'role'.")
        beyond = set(scopes or ()) - caller.scopes
        if beyond:
            raise Forbidden(f"This {caller.how} has not the scope '{min(beyond)}' itself; leave it out.")
        scopes = sorted(caller.scopes) if scopes is None else scopes
    until = None if caller.how == "session" or "admin" in caller.scopes else caller.expires_at
    with parts.catalog.transaction() as work:
        return accounts.add_key(work, actor, user, role, scopes, body.days, until)


@router.delete("/v1/keys/{prefix}")
async def revoke(prefix: str, request: Request, parts: Parts, caller: KeyHolder) -> dict[str, Any]:
    """Refuse a key from now on, within a second on every replica. 404 when it is not there or not yours."""
    return _shown(await asyncio.to_thread(_revoke, parts, Actor(caller.user, origin(request)), prefix, caller))


def _revoke(parts: Gateway, actor: Actor, prefix: str, caller: Identity) -> ApiKey:
    with parts.catalog.transaction() as work:
        return accounts.revoke_key(work, actor, prefix, None if "admin" in caller.scopes else caller.user)
