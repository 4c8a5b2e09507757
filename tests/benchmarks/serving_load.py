"""Load on an OpenAI-compatible endpoint: a number of streams, each asking again when its answer is whole. As little client as possible,
because it shares the machine with what it measures."""

import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_USAGE = b'"usage":{'
_USAGE_SPACED = b'"usage": {'


class Heard(NamedTuple):
    """One answer: seconds to its first text and to its end, tokens, and what went wrong ("" when nothing did)."""

    first: float
    whole: float
    tokens: int
    wrong: str


class Endpoint(NamedTuple):
    """Where to ask, as whom, for which model; ``system`` goes before each question ("": no system message). With ``to_the_end`` an answer
    has as many tokens as it may have."""

    address: str
    key: str
    model: str
    system: str = ""
    to_the_end: bool = False

    def request(self, question: str, max_tokens: int) -> bytes:
        """The bytes of a streaming chat request."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        body = {
            "model": self.model, "messages": [*messages, {"role": "user", "content": question}], "stream": True, "temperature": 0.0,
            "max_tokens": max_tokens, "stream_options": {"include_usage": True},
        }  # fmt: skip
        data = json.dumps({**body, "ignore_eos": True} if self.to_the_end else body).encode()
        place = urlsplit(self.address)
        head = (
            f"POST {place.path}/chat/completions HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {self.key}\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        return head.encode() + data


async def ask(endpoint: Endpoint, question: str, max_tokens: int, connection: Any = None) -> tuple[Heard, Any]:
    """One streamed answer, and the connection for the next."""
    place = urlsplit(endpoint.address)
    began = time.perf_counter()
    try:
        reader, writer = connection or await asyncio.open_connection(place.hostname, place.port)
        writer.write(endpoint.request(question, max_tokens))
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        received = bytearray()
        first = 0.0
        while b"\r\n0\r\n\r\n" not in received[-64:]:
            piece = await reader.read(65536)
            if not piece:
                break
            if not first and b'"content"' in piece and (b'"content": "' in piece or b'"content":"' in piece) and _says(piece):
                first = time.perf_counter() - began
            received += piece
            if status != 200:
                break
    except (OSError, asyncio.IncompleteReadError) as error:
        return Heard(0.0, 0.0, 0, type(error).__name__), None
    whole = time.perf_counter() - began
    if status != 200 or b"[DONE]" not in received:
        writer.close()
        return Heard(first, whole, 0, f"{status}: {bytes(received[-200:])!r}"), None
    return Heard(first or whole, whole, _tokens(bytes(received)), ""), (reader, writer)


def _says(piece: bytes) -> bool:
    """Whether some text is in it: the first event of some servers holds the role alone."""
    return any(mark in piece and not piece.split(mark, 1)[1].startswith(b'"') for mark in (b'"content": "', b'"content":"'))


def _tokens(received: bytes) -> int:
    place = max(received.rfind(_USAGE), received.rfind(_USAGE_SPACED))
    text = received[place:].split(b"{", 1)[1].split(b"}", 1)[0]
    for part in text.split(b","):
        name, _, value = part.partition(b":")
        if name.strip() == b'"completion_tokens"':
            return int(value)
    return 0


async def _load(asked: Sequence[tuple[Endpoint, str]], streams: int, max_tokens: int) -> dict[str, Any]:
    waiting = list(asked)[::-1]
    heard: list[Heard] = []

    async def stream() -> None:
        connection = None
        while waiting:
            endpoint, question = waiting.pop()
            one, connection = await ask(endpoint, question, max_tokens, connection)
            heard.append(one)
        if connection is not None:
            connection[1].close()

    began = time.perf_counter()
    await asyncio.gather(*(stream() for _ in range(streams)))
    seconds = time.perf_counter() - began
    good = [one for one in heard if not one.wrong]
    if not good:
        raise SystemExit(f"{asked[0][0].address} answered nothing: {heard[0].wrong}")
    whole = sorted(one.whole for one in good)
    return {
        "tokens_per_s": sum(one.tokens for one in good) / seconds,
        "ttft_p50": statistics.median(one.first for one in good),
        "e2e_p95": whole[min(len(whole) - 1, int(0.95 * len(whole)))],
        "tokens": sum(one.tokens for one in good),
        "failed": len(heard) - len(good),
        "first_failure": next((one.wrong for one in heard if one.wrong), ""),
    }


def load(asked: Sequence[tuple[Endpoint, str]], streams: int, max_tokens: int) -> dict[str, Any]:
    """All questions over ``streams`` connections: tokens/s over all, seconds to the first text (median) and to the end (p95)."""
    return asyncio.run(_load(asked, streams, max_tokens))


def each(endpoint: Endpoint, questions: Sequence[str]) -> list[tuple[Endpoint, str]]:
    """Every question for the same endpoint."""
    return [(endpoint, question) for question in questions]
