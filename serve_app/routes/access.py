"""What routes ask of a request: its gateway, and who sends it.

A route that takes a ``Caller`` and says nothing else needs the scope ``read`` to read and ``chat`` for everything else.
"""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request

from cluster.domain.audit import AuditEntry
from cluster.domain.users import Person, Scope
from cluster.errors import Forbidden
from serve_app.gateway import Gateway
from serve_app.identity import Identity

_READS = ("GET", "HEAD")


def _of(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


async def _gateway(request: Request) -> Gateway:
    """As a dependency: one that is no coroutine would take a thread for each request."""
    return _of(request)


def origin(request: Request) -> str:
    """The client's address as this server sees it."""
    return request.client.host if request.client else ""


async def _identity(request: Request) -> Identity:
    return await _of(request).identities.of(request.headers, request.cookies, request.method not in _READS)


def needs(scope: Scope | None = None) -> Callable[[Request], Any]:
    """A dependency: an identity with this scope, within its limits. None: the one that the request's method stands for."""

    async def admitted(request: Request) -> Identity:
        found = await _identity(request)
        wanted: Scope = scope or ("read" if request.method in _READS else "chat")
        parts = _of(request)
        if wanted not in found.scopes:
            refused = f"{request.method} {request.url.path}"[:200]
            parts.books.note(
                AuditEntry(user=found.user, origin=origin(request), action="request", target=refused, result="refused")
            )
            raise Forbidden(
                f"{request.method} {request.url.path} needs the scope '{wanted}', which a {found.role}'s {found.how} of "
                f"'{found.user}' with {', '.join(sorted(found.scopes)) or 'no scope'} has not; ask an admin for one that has."
            )
        parts.admit(found, asks=wanted == "chat")
        return found

    return admitted


async def _curator(request: Request) -> Identity:
    found: Identity = await needs("signals")(request)
    if not sees_all(found):
        raise Forbidden(f"{request.method} {request.url.path} is for curators, and '{found.user}' is a {found.role}.")
    return found


Parts = Annotated[Gateway, Depends(_gateway)]
Known = Annotated[Identity, Depends(_identity)]
"""Anybody who may log in, whatever their scopes and limits: for questions about oneself."""
Caller = Annotated[Identity, Depends(needs())]
Judge = Annotated[Identity, Depends(needs("signals"))]
KeyHolder = Annotated[Identity, Depends(needs("keys"))]
Curator = Annotated[Identity, Depends(_curator)]
Admin = Annotated[Identity, Depends(needs("admin"))]


def sees_all(caller: Person) -> bool:
    """Curators and admins see everybody's turns; users only their own."""
    return caller.role in ("curator", "admin")
