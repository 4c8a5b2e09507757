"""Alerts of the guard by webhook and e-mail, sent off the event loop and rate-limited.

An alert that cannot be sent is logged and lost: the event itself stands in the catalog.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import smtplib
import time
from collections import deque
from email.message import EmailMessage
from typing import Callable

import httpx

from cluster.domain.guard_events import GuardEvent
from cluster.errors import one_sentence
from cluster.settings import AlertSettings

log = logging.getLogger(__name__)
WAITING = 256
"""Alerts that wait at most; with more of them the endpoint is down, and the newest are dropped."""
_ORDER = ("log", "flag", "block", "anomaly")


class Alerts:
    """One sender per process. ``clock`` gives seconds."""

    def __init__(self, settings: AlertSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._sent: deque[float] = deque()
        self._held_back = 0
        self._waiting: asyncio.Queue[tuple[GuardEvent, int]] = asyncio.Queue(WAITING)
        self._task: asyncio.Task[None] | None = None

    @property
    def wanted(self) -> bool:
        """Whether anybody is told."""
        return bool(self._settings.webhook or self._settings.email_to)

    def note(self, event: GuardEvent) -> None:
        """Tell of an event, if it is grave enough and not too many were told of before. Never waits."""
        if not self.wanted or _ORDER.index(event.action) < _ORDER.index(self._settings.least):
            return
        moment = self._clock()
        while self._sent and self._sent[0] <= moment - self._settings.window_seconds:
            self._sent.popleft()
        if len(self._sent) >= self._settings.most or self._waiting.full():
            self._held_back += 1
            return
        self._sent.append(moment)
        self._waiting.put_nowait((event, self._held_back))
        self._held_back = 0
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send_on())

    async def drained(self) -> None:
        """Wait until everything that waits was sent or given up."""
        await self._waiting.join()

    async def close(self) -> None:
        """Stop sending."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _send_on(self) -> None:
        while True:
            event, held_back = await self._waiting.get()
            ways = []
            if self._settings.webhook:
                ways.append(self._post(event, held_back))
            if self._settings.email_to:
                ways.append(asyncio.to_thread(self._mail, event, held_back))
            for problem in await asyncio.gather(*ways, return_exceptions=True):
                if isinstance(problem, Exception):
                    log.error("an alert of the guard was not sent: %s", one_sentence(problem))
            self._waiting.task_done()

    async def _post(self, event: GuardEvent, held_back: int) -> None:
        body = json.dumps({"event": event.model_dump(mode="json"), "held_back": held_back}, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "X-Treadle-Timestamp": str(int(time.time()))}
        secret = self._settings.webhook_secret.get_secret_value()
        if secret:
            headers["X-Treadle-Signature"] = signature(secret, headers["X-Treadle-Timestamp"], body)
        async with httpx.AsyncClient(timeout=self._settings.timeout_seconds) as client:
            (await client.post(self._settings.webhook, content=body, headers=headers)).raise_for_status()

    def _mail(self, event: GuardEvent, held_back: int) -> None:
        settings = self._settings
        message = EmailMessage()
        message["From"], message["To"] = settings.email_from, ", ".join(settings.email_to)
        message["Subject"] = f"Treadle guard: {event.action} ({', '.join(event.kinds) or event.place})"
        message.set_content(_letter(event, held_back))
        kind = smtplib.SMTP_SSL if settings.smtp_security == "tls" else smtplib.SMTP
        with kind(settings.smtp_host, settings.smtp_port, timeout=settings.timeout_seconds) as server:
            if settings.smtp_security == "starttls":
                server.starttls()
            if settings.smtp_user:
                server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
            server.send_message(message)


def signature(secret: str, stamp: str, body: bytes) -> str:
    """What the receiver computes too, and compares: ``sha256=`` and the HMAC of time stamp, dot and body."""
    return f"sha256={hmac.new(secret.encode(), stamp.encode() + b'.' + body, hashlib.sha256).hexdigest()}"


def _letter(event: GuardEvent, held_back: int) -> str:
    lines = [f"{name}: {value}" for name, value in event.model_dump(mode="json").items() if value]
    if held_back:
        lines.append(f"{held_back} alerts before this one were held back.")
    return "\n".join([*lines, "", "All events: treadle guard events"])
