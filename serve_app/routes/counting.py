"""What is done with every request: its body is checked for whole characters, and it is counted by route and status.

A stream counts by the status it begins with; its pieces are not looked at.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from cluster.errors import GuardBlocked, InvalidInput


class CountedRoute(APIRoute):
    """The class of all routes: ``APIRouter(route_class=CountedRoute)``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def counted(request: Request) -> Response:
            meters = request.app.state.gateway.meters
            try:
                if self.body_field is not None:
                    check_characters(await request.body())
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


def check_characters(body: bytes) -> None:
    """Raises InvalidInput when JSON holds halves of characters: Python takes them for text, and nothing can write them down.

    Only bodies that escape characters beyond the first plane are parsed for it.
    """
    if b"\\ud" not in body and b"\\uD" not in body:
        return
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidInput("The body holds half a character (a lone surrogate such as \\ud800); send whole ones.") from None
    except (ValueError, RecursionError):
        return  # no JSON, which is said where it is read
