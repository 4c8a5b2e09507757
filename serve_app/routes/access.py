"""What routes ask of a request: its gateway, and who sends it."""

from typing import Annotated

from fastapi import Depends, Request

from cluster.domain.users import ApiKey
from serve_app.gateway import Gateway


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


async def _caller(request: Request) -> ApiKey:
    return await _gateway(request).keys.owner(request.headers.get("authorization"))


Parts = Annotated[Gateway, Depends(_gateway)]
Caller = Annotated[ApiKey, Depends(_caller)]


def sees_all(caller: ApiKey) -> bool:
    """Curators and admins see everybody's turns; users only their own."""
    return caller.role in ("curator", "admin")
