"""Logging in and out, and who one is.

The cookie is out of scripts' reach (HttpOnly), is not sent from other sites (SameSite=Strict), and a write with it needs ``X-Treadle``.
"""

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from cluster import accounts
from cluster.accounts import Actor
from cluster.catalog import sessions, users
from cluster.domain.audit import AuditEntry
from cluster.domain.base import Name
from cluster.domain.users import SESSION_HOURS, Session, User
from cluster.errors import Conflict, Unauthenticated
from cluster.passwords import LONGEST, matches
from serve_app.gateway import Gateway
from serve_app.identity import COOKIE, Identity
from serve_app.routes.access import Known, Parts, origin

router = APIRouter()
TRIES_A_MINUTE = 10
"""With wrong passwords, of one name from one address; six times that for a name from everywhere."""
_AT_ONCE = asyncio.Semaphore(2)


class Login(BaseModel):
    model_config = ConfigDict(extra="forbid")

    user: Name
    password: str = Field(min_length=1, max_length=LONGEST)


class PasswordChange(BaseModel):
    model_config = ConfigDict(extra="forbid")

    old: str = Field(min_length=1, max_length=LONGEST)
    new: str = Field(min_length=1, max_length=LONGEST)


@router.post("/v1/auth/login")
async def login(body: Login, request: Request, response: Response, parts: Parts) -> dict[str, Any]:
    """Begin a session. 401 for a wrong password, an unknown and a disabled user alike; 429 after too many of them."""
    actor = Actor(body.user, origin(request))
    for subject, most in ((f"login/{body.user}/{actor.origin}", TRIES_A_MINUTE), (f"login/{body.user}", 6 * TRIES_A_MINUTE)):
        parts.limits.check(subject, "minute", most, "wrong logins")
    async with _AT_ONCE:  # each takes 19 MiB and a core
        user = await asyncio.to_thread(_right, parts, body)
    if user is None:
        parts.limits.add(f"login/{body.user}/{actor.origin}", "minute", 1)
        parts.limits.add(f"login/{body.user}", "minute", 1)
        parts.books.note(AuditEntry(user=body.user, origin=actor.origin, action="login", target=body.user, result="refused"))
        raise Unauthenticated("User or password is wrong; an admin can set a new password (treadle users password NAME).")
    text, session = await asyncio.to_thread(_begin, parts, actor, user)
    secure = request.url.scheme == "https" or parts.settings.serve.tls is not None
    response.set_cookie(COOKIE, text, max_age=SESSION_HOURS * 3600, httponly=True, samesite="strict", secure=secure)
    return {"user": user.name, "role": user.role, "expires_at": session.expires_at}


def _right(parts: Gateway, body: Login) -> User | None:
    with parts.catalog.reading() as work:
        user = users.find(work, body.user)
    known = user is not None and not user.disabled
    right = matches(body.password, user.password if user is not None and known else None)
    return user if right else None


def _begin(parts: Gateway, actor: Actor, user: User) -> tuple[str, Session]:
    with parts.catalog.transaction() as work:
        return accounts.log_in(work, actor, user)


@router.post("/v1/auth/logout")
async def logout(request: Request, response: Response, parts: Parts, caller: Known) -> dict[str, Any]:
    """End the session. A key or a token has none to end."""
    if caller.how == "session":
        await asyncio.to_thread(_end, parts, Actor(caller.user, origin(request)), caller)
        parts.identities.forget(caller.credential)
    response.delete_cookie(COOKIE)
    return {"logged_out": caller.how == "session"}


def _end(parts: Gateway, actor: Actor, caller: Identity) -> None:
    with parts.catalog.transaction() as work:
        sessions.end(work, caller.credential)
        actor.note(work, "logout", caller.user)


@router.get("/v1/auth/me")
async def me(parts: Parts, caller: Known) -> dict[str, Any]:
    """Who asks, what they may do, and what of their limits is used."""
    limits = parts.settings.router.limits.get(caller.role)
    used = {
        "requests_this_minute": parts.limits.used(f"requests/{caller.user}", "minute"),
        "tokens_today": parts.limits.used(f"tokens/{caller.user}", "day"),
    }
    return {
        "user": caller.user,
        "role": caller.role,
        "scopes": sorted(caller.scopes),
        "how": caller.how,
        "expires_at": caller.expires_at,
        "limits": None if limits is None else {**limits.model_dump(), **used},
    }


@router.post("/v1/auth/password")
async def password(body: PasswordChange, request: Request, parts: Parts, caller: Known) -> dict[str, Any]:
    """Change one's own password, in a session. Every other session of the user ends."""
    if caller.how != "session":
        raise Conflict("A password is changed in a session; log in first (POST /v1/auth/login).")
    actor = Actor(caller.user, origin(request))
    parts.limits.take(f"password/{caller.user}", "minute", TRIES_A_MINUTE, "changes of a password")
    async with _AT_ONCE:
        await asyncio.to_thread(_change, parts, actor, body, caller.credential)
    return {"changed": True}


def _change(parts: Gateway, actor: Actor, body: PasswordChange, session: str) -> None:
    with parts.catalog.transaction() as work:
        accounts.change_own_password(work, actor, body.old, body.new, session)
