import asyncio
import socket
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from cluster.errors import Unavailable
from serve_app.http_server import HttpServer


def application(name: str, pause: float = 0.0) -> Any:
    async def answer(_: Request) -> PlainTextResponse:
        await asyncio.sleep(pause)
        return PlainTextResponse(name)

    return Starlette(routes=[Route("/", answer)])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


async def asked(port: int) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://127.0.0.1:{port}/", timeout=30)).text


async def test_replicas_share_a_port() -> None:
    port = free_port()
    servers = [await HttpServer.started(application(name), "127.0.0.1", port, None) for name in ("one", "two")]
    heard = {await asked(port) for _ in range(60)}
    assert heard == {"one", "two"}
    await servers[0].end()
    assert [server.alive() for server in servers] == [False, True]
    assert {await asked(port) for _ in range(10)} == {"two"}
    await servers[1].end()


async def test_what_is_under_way_is_answered_when_a_replica_ends() -> None:
    port = free_port()
    server = await HttpServer.started(application("late", 0.5), "127.0.0.1", port, None)
    answer = asyncio.create_task(asked(port))
    await asyncio.sleep(0.2)
    await server.end()
    assert await answer == "late"
    with pytest.raises(httpx.ConnectError):
        await asked(port)


async def test_a_port_of_somebody_else_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = int(held.getsockname()[1])
        with pytest.raises(Unavailable, match=f"Port {port} of 127.0.0.1 cannot be listened on .*serve.port"):
            await HttpServer.started(application("none"), "127.0.0.1", port, None)
