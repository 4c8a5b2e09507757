"""Clients that go away before their answer."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.exceptions import HTTPException

T = TypeVar("T")
LOOKS_EVERY_S = 0.5
"""How often a long answer looks whether somebody still waits for it. Most answers are there before the first look."""


async def unless_left(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled when the client goes away: streams notice that when they send, this does by looking."""
    task = asyncio.ensure_future(work)
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=LOOKS_EVERY_S)
            if done:
                return task.result()
            if await request.is_disconnected():
                raise HTTPException(499, "The client went away before its answer.")
    finally:
        task.cancel()
