"""Idempotency keys: the same key, user and body get the same answer, from whichever replica, for ten minutes.

A client that lost the connection asks again with its key and gets what was made, without a second turn. Costs nothing without the
header.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from cluster.catalog import Catalog, answered_once
from cluster.domain.base import digest_of, now
from cluster.errors import Conflict, InvalidInput, TreadleError

log = logging.getLogger(__name__)
KEPT = timedelta(minutes=10)
CLAIMED = timedelta(minutes=5)
"""How long a key is taken while its answer is made: after it the replica that made it is thought dead."""
DONE = "data: [DONE]\n\n"
REPLAYED = {"Idempotent-Replayed": "true"}


async def once(
    request: Request, catalog: Catalog, user: str, body: BaseModel, make: Callable[[], Awaitable[Response]]
) -> Response:
    """What ``make`` gives, or what it gave for this key before. Raises Conflict when the key stands for something else."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return await make()
    if not 0 < len(key) <= 200 or not key.isprintable():
        raise InvalidInput("An Idempotency-Key has 1 to 200 printable characters; a UUID will do.")
    kept = Kept(catalog, user, key, digest_of([request.url.path, body.model_dump(mode="json", by_alias=True)]))
    found = await kept.claim()
    if found is not None:
        if "events" in found:
            return StreamingResponse(_replay(found["events"]), media_type=found["media_type"], headers=REPLAYED)
        return Response(found["text"], media_type=found["media_type"], headers=REPLAYED)
    try:
        response = await make()
    except BaseException:
        await asyncio.shield(kept.release())
        raise
    if isinstance(response, StreamingResponse):
        response.body_iterator = _keeping(kept, response.body_iterator, response.media_type)  # type: ignore[arg-type]
    else:
        await kept.keep({"text": bytes(response.body).decode(), "media_type": response.media_type})
    return response


class Kept:
    """The answer of one key."""

    def __init__(self, catalog: Catalog, user: str, key: str, digest: str) -> None:
        self._catalog, self._user, self._key, self._digest = catalog, user, key, digest

    async def claim(self) -> dict[str, Any] | None:
        """The kept answer; None when it is now ours to make."""
        return await asyncio.to_thread(self._claim)

    def _claim(self) -> dict[str, Any] | None:
        with self._catalog.transaction() as work:
            found = answered_once.claim(work, self._user, self._key, self._digest, now() + CLAIMED)
        if found is None:
            return None
        if found.digest != self._digest:
            raise Conflict(f"The Idempotency-Key '{self._key}' was used for another request; send a new key with a new request.")
        if found.body is None:
            raise Conflict(f"The request with Idempotency-Key '{self._key}' is being answered; ask again in a moment.")
        return found.body

    async def keep(self, body: dict[str, Any]) -> None:
        """Keep the answer. When the catalog cannot be written it is given all the same."""
        try:
            await asyncio.to_thread(self._keep, body)
        except TreadleError as error:
            log.error("an answer was not kept for its idempotency key: %s", error.message)

    def _keep(self, body: dict[str, Any]) -> None:
        with self._catalog.transaction() as work:
            answered_once.keep(work, self._user, self._key, body, now() + KEPT)

    async def release(self) -> None:
        """Give the key back: nothing was made."""
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        with self._catalog.transaction() as work:
            answered_once.release(work, self._user, self._key)


async def _keeping(kept: Kept, events: AsyncIterator[str], media_type: str | None) -> AsyncIterator[str]:
    """A stream that is kept before its end goes out; one that breaks off is not."""
    seen: list[str] = []
    whole = False
    try:
        async for event in events:
            seen.append(event)
            if event == DONE:
                await kept.keep({"events": seen, "media_type": media_type})
                whole = True
            yield event
    finally:
        if not whole:
            await asyncio.shield(kept.release())


async def _replay(events: list[str]) -> AsyncIterator[str]:
    for event in events:
        yield event
