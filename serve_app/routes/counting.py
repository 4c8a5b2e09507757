"""Requests counted by route and status. A stream counts by the status it begins with; its pieces are not looked at."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from cluster.errors import GuardBlocked


class CountedRoute(APIRoute):
    """A route that counts: ``APIRouter(route_class=CountedRoute)``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def counted(request: Request) -> Response:
            meters = request.app.state.gateway.meters
            try:
                response = await handle(request)
            except Exception as error:  # whatever it is: it is counted and goes on
                unusable = isinstance(error, RequestValidationError)
                meters.request(self.path, 400 if unusable else getattr(error, "status_code", 500))
                if isinstance(error, GuardBlocked):
                    meters.add("treadle_guard_blocks_total")
                raise
            meters.request(self.path, response.status_code)
            return response

        return counted
