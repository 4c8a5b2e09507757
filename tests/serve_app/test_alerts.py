"""Alerts against a real HTTP server and a real SMTP server on this machine."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from cluster.domain.guard_events import GuardEvent
from cluster.settings import AlertSettings
from serve_app.alerts import Alerts, signature


@dataclass
class Sink:
    """What a server on ``port`` was sent: HTTP requests as (headers, body), letters as text. ``status`` is what HTTP answers."""

    port: int = 0
    status: str = "204 No Content"
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def served(sink: Sink, handler: object) -> AsyncIterator[Sink]:
    server = await asyncio.start_server(lambda reader, writer: handler(sink, reader, writer), "127.0.0.1", 0)  # type: ignore[operator]
    sink.port = server.sockets[0].getsockname()[1]
    async with server:
        yield sink


async def http(sink: Sink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
    sink.requests.append((headers, await reader.readexactly(int(headers["content-length"]))))
    writer.write(f"HTTP/1.1 {sink.status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    await writer.drain()
    writer.close()


async def smtp(sink: Sink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 sink\r\n")
    while line := await reader.readline():
        word = line.split()[0].upper() if line.split() else b""
        if word == b"RCPT":
            sink.recipients.append(line.decode().strip())
        if word == b"DATA":
            writer.write(b"354 go on\r\n")
            sink.letters.append((await reader.readuntil(b"\r\n.\r\n")).decode())
        writer.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
        await writer.drain()
        if word == b"QUIT":
            break
    writer.close()


def event(action: str = "block") -> GuardEvent:
    return GuardEvent.model_validate(
        {
            "user": "eve",
            "place": "input",
            "policy": "standard",
            "action": action,
            "kinds": ["prompt-leak"],
            "patterns": ["leak-dump"],
        }
    )


async def test_a_webhook_gets_the_event_and_can_check_who_sent_it() -> None:
    async with served(Sink(), http) as sink:
        alerts = Alerts(AlertSettings(webhook=f"http://127.0.0.1:{sink.port}/hook", webhook_secret="shared"))  # type: ignore[arg-type]
        told = event()
        alerts.note(told)
        alerts.note(event("flag"))
        await asyncio.wait_for(alerts.drained(), 20)
        await alerts.close()
    ((headers, body),) = sink.requests
    assert json.loads(body)["event"]["id"] == told.id
    assert headers["x-treadle-signature"] == signature("shared", headers["x-treadle-timestamp"], body)
    assert headers["x-treadle-signature"] != signature("other", headers["x-treadle-timestamp"], body)


async def test_an_e_mail_names_user_kind_and_pattern() -> None:
    async with served(Sink(), smtp) as sink:
        alerts = Alerts(
            AlertSettings(email_to=("ops@example.org", "sec@example.org"), smtp_host="127.0.0.1", smtp_port=sink.port)
        )
        alerts.note(event("anomaly"))
        await asyncio.wait_for(alerts.drained(), 20)
        await alerts.close()
    (letter,) = sink.letters
    assert "Subject: Treadle guard: anomaly (prompt-leak)" in letter
    assert "user: eve" in letter
    assert "leak-dump" in letter
    assert len(sink.recipients) == 2


async def test_too_many_alerts_are_held_back_and_counted_in_the_next() -> None:
    clock = [0.0]
    async with served(Sink(), http) as sink:
        settings = AlertSettings(webhook=f"http://127.0.0.1:{sink.port}/", most=2, window_seconds=60.0)
        alerts = Alerts(settings, lambda: clock[0])
        for _ in range(5):
            alerts.note(event())
        await asyncio.wait_for(alerts.drained(), 20)
        assert len(sink.requests) == 2
        clock[0] = 61.0
        alerts.note(event())
        await asyncio.wait_for(alerts.drained(), 20)
        await alerts.close()
    assert [json.loads(body)["held_back"] for _, body in sink.requests] == [0, 0, 3]


async def test_a_receiver_that_is_down_stops_neither_the_other_way_nor_the_next_alert(caplog: pytest.LogCaptureFixture) -> None:
    async with served(Sink(status="500 Broken"), http) as hook, served(Sink(), smtp) as post:
        settings = AlertSettings(
            webhook=f"http://127.0.0.1:{hook.port}/", email_to=("ops@example.org",), smtp_host="127.0.0.1", smtp_port=post.port
        )
        alerts = Alerts(settings)
        for _ in range(2):
            alerts.note(event())
        await asyncio.wait_for(alerts.drained(), 20)
        await alerts.close()
    assert len(post.letters) == 2
    assert len([one for one in caplog.records if "was not sent" in one.message]) == 2


async def test_nobody_is_told_when_nobody_is_named() -> None:
    alerts = Alerts(AlertSettings())
    alerts.note(event())
    assert not alerts.wanted
    await asyncio.wait_for(alerts.drained(), 1)
