"""The public port, held by the Router replicas themselves.

Every replica of a node binds the same port (SO_REUSEPORT) and the kernel spreads connections over them: no proxy process copies each
request and each token once more. Where Serve's proxies shall hold the port (``serve.front: proxy``), this file has no part.
"""

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import uvicorn

from cluster.errors import Unavailable

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75
DRAIN_SECONDS = 15
"""How long answers under way may take when a replica is stopped."""


class HttpServer:
    """An ASGI application on a port. Make it with ``HttpServer.started``, inside the event loop that shall run it."""

    def __init__(self, server: uvicorn.Server, task: "asyncio.Task[None]") -> None:
        self._server, self._task = server, task

    @classmethod
    async def started(cls, app: Any, host: str, port: int, pair: tuple[Path, Path] | None) -> "HttpServer":
        """Listens when it returns. Raises Unavailable when the port cannot be had."""
        secured = {} if pair is None else {"ssl_certfile": str(pair[0]), "ssl_keyfile": str(pair[1])}
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            **secured,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[_shared(host, port)]))
        while not server.started:
            if task.done():
                raise Unavailable(f"The HTTP endpoint did not start: {task.exception()}")
            await asyncio.sleep(0.01)
        return cls(server, task)

    def alive(self) -> bool:
        """Whether it still listens."""
        return not self._task.done()

    async def end(self) -> None:
        """Take no new connection, and wait for the answers that are under way, at most DRAIN_SECONDS."""
        self._server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


def _shared(host: str, port: int) -> socket.socket:
    family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(place)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        raise Unavailable(
            f"Port {port} of {host} cannot be listened on ({reason}); set serve.port in configs/treadle.yaml."
        ) from None
    listening.setblocking(False)
    return listening
