"""Users, for admins."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from cluster import accounts
from cluster.accounts import Actor
from cluster.catalog import users
from cluster.domain.base import Name
from cluster.domain.users import Role, User
from cluster.errors import Conflict
from cluster.passwords import LONGEST
from serve_app.gateway import Gateway
from serve_app.routes.access import Admin, Parts, origin

router = APIRouter()


class NewUser(BaseModel):
    """Without a password the user cannot log in, and has keys and tokens only."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    role: Role = "user"
    password: str | None = Field(default=None, max_length=LONGEST)


class UserChange(BaseModel):
    """What is left out stays."""

    model_config = ConfigDict(extra="forbid")

    role: Role | None = None
    disabled: bool | None = None
    password: str | None = Field(default=None, max_length=LONGEST)


def _shown(user: User) -> dict[str, Any]:
    return {**user.model_dump(mode="json", exclude={"password"}), "may_log_in": user.password is not None and not user.disabled}


@router.get("/v1/users")
async def list_users(parts: Parts, caller: Admin) -> dict[str, Any]:
    """All users by name."""
    return {"object": "list", "data": [_shown(user) for user in await asyncio.to_thread(_everyone, parts)]}


def _everyone(parts: Gateway) -> list[User]:
    with parts.catalog.reading() as work:
        return users.everyone(work)


@router.post("/v1/users", status_code=201)
async def create(body: NewUser, request: Request, parts: Parts, caller: Admin) -> dict[str, Any]:
    """A new user. 409 when the name is taken."""
    return _shown(await asyncio.to_thread(_create, parts, Actor(caller.user, origin(request)), body))


def _create(parts: Gateway, actor: Actor, body: NewUser) -> User:
    with parts.catalog.transaction() as work:
        return accounts.add_user(work, actor, body.name, body.role, body.password)


@router.patch("/v1/users/{name}")
async def change(name: str, body: UserChange, request: Request, parts: Parts, caller: Admin) -> dict[str, Any]:
    """Change role or password, disable or enable: in force within a second."""
    if name == caller.user and (body.disabled or (body.role or "admin") != "admin"):
        raise Conflict("An admin cannot disable or demote themselves; another admin can, or the command line (treadle users).")
    return _shown(await asyncio.to_thread(_change, parts, Actor(caller.user, origin(request)), name, body))


def _change(parts: Gateway, actor: Actor, name: str, body: UserChange) -> User:
    with parts.catalog.transaction() as work:
        return accounts.change_user(work, actor, name, body.role, body.disabled, body.password)
