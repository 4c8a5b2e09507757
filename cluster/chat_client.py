"""An OpenAI-protocol client for judges and synthesis: any endpoint with ``/chat/completions``, ours included.

    async with ChatClient("http://localhost:8000/v1", "refiner") as client:
        answer = await client.ask([{"role": "user", "content": "…"}], max_tokens=200)

Asks again after 408, 409, 429, 5xx, broken connections, answers that are no completion, and timeouts; a server's Retry-After goes
before the pause of its own. Follows no redirects, so that a key goes nowhere else. Knows no streaming.
"""

import asyncio
import random
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from cluster.domain.base import now
from cluster.errors import InvalidInput, TreadleError, Unauthenticated, Unavailable

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_LOCAL = ("localhost", "127.0.0.1", "::1")
Chat = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said. Tokens are the server's count, or a quarter of the characters where it does not say; ``finish`` is "length"
    where the answer was cut off."""

    text: str
    tokens_in: int
    tokens_out: int
    finish: str = "stop"


class ChatClient:
    """A model at an endpoint. At most ``concurrency`` requests at once; ``timeout`` is for one whole answer, in seconds; ``retries`` is
    how often a request is sent again. ``verify``: as httpx has it. Belongs to the event loop that first uses it."""

    def __init__(
        self,
        endpoint: str,
        model: str,
        key: str | None = None,
        concurrency: int = 8,
        retries: int = 4,
        timeout: float = 60,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self.endpoint, self.model = checked_endpoint(endpoint), model
        key = (key or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise InvalidInput(f"The key of model '{model}' has characters that no key has; set it again in configs/models.yaml.")
        self._key, self._retries, self._timeout = key, retries, timeout
        self._slots = asyncio.Semaphore(concurrency)
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=timeout,
            verify=verify,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            trust_env=urlsplit(self.endpoint).hostname not in _LOCAL,
        )

    def __repr__(self) -> str:
        return f"ChatClient({self.endpoint!r}, {self.model!r})"

    async def __aenter__(self) -> "ChatClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def ask(self, messages: Chat, **options: Any) -> Answer:
        """The model's answer; ``options`` go into the request as they are (temperature, max_tokens, response_format…).

        Raises Unauthenticated when the key is refused, InvalidInput when the request is, and Unavailable when there is still no answer
        after the last retry.
        """
        body = {"model": self.model, "messages": list(messages), **options}
        async with self._slots:
            for attempt in range(self._retries + 1):
                found = await self._once(body)
                if isinstance(found, Answer):
                    return found
                error, asked_for = found
                if attempt < self._retries:
                    await asyncio.sleep(_pause(attempt, asked_for))
        raise error

    async def _once(self, body: Mapping[str, Any]) -> Answer | tuple[TreadleError, float | None]:
        """One request: the answer, or why it is worth asking again and the pause that the server wants."""
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._http.post(f"{self.endpoint}/chat/completions", json=body)
        except (TimeoutError, httpx.TimeoutException):
            return self._unavailable(f"did not answer within {self._timeout:g} s"), None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return self._unavailable(f"cannot be reached ({type(error).__name__}: {self._shown(str(error))})"), None
        if response.status_code == 200:
            return self._read(response, body)
        return self._refused(response)

    def _read(self, response: httpx.Response, body: Mapping[str, Any]) -> Answer | tuple[TreadleError, None]:
        try:
            value = response.json()
            choice, usage = value["choices"][0], value.get("usage") or {}
            text = choice["message"].get("content") or ""
            tokens_in = usage.get("prompt_tokens") or estimated_tokens(body["messages"])
            tokens_out = usage.get("completion_tokens") or (len(text) + 3) // 4
            return Answer(str(text), int(tokens_in), int(tokens_out), str(choice.get("finish_reason") or "stop"))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return self._unavailable("answered something that is no chat completion"), None

    def _refused(self, response: httpx.Response) -> tuple[TreadleError, float | None]:
        status = response.status_code
        if status in (401, 403):
            raise Unauthenticated(
                f"Model '{self.model}' at {self.endpoint} refuses the key ({status}); set 'key' of its role in configs/models.yaml."
            )
        said = self._shown(_said(response))
        if status in _AGAIN:
            return self._unavailable(f"answered {status}{said}"), _retry_after(response.headers.get("Retry-After"))
        if status in (400, 413, 422):
            raise InvalidInput(f"Model '{self.model}' at {self.endpoint} refuses the request ({status}){said}; see its limits.")
        raise self._unavailable(f"answered {status}{said}")

    def _unavailable(self, why: str) -> Unavailable:
        return Unavailable(f"Model '{self.model}' at {self.endpoint} {why}; check the endpoint and the model's name there.")

    def _shown(self, text: str) -> str:
        """Text of the other side as it may stand in a message: one short line, without the key."""
        line = " ".join(text.split())
        return (line.replace(self._key, "…") if self._key else line)[:200]


def checked_endpoint(endpoint: str) -> str:
    """The endpoint without a trailing slash, with /v1 where it has no path. Raises InvalidInput for what is no http(s) address, and for
    one that carries a password, because addresses are shown and recorded."""
    try:
        parts = urlsplit(endpoint.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host:
        shown = endpoint.rpartition("@")[2][:80]
        raise InvalidInput(f"Endpoint '{shown}' is no http(s) address; write it as http://host:port/v1.")
    if parts.username or parts.password or parts.query:
        raise InvalidInput(
            f"Endpoint at {host} carries a user, a password or a query; give the key as 'key' of its role instead."
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def estimated_tokens(messages: Chat) -> int:
    """A rough count for planning: a token for four characters, and four for each message's frame."""
    return sum(len(str(message.get("content") or "")) // 4 + 4 for message in messages)


def _said(response: httpx.Response) -> str:
    """What an error's body says, as a clause: OpenAI's form, else nothing (a proxy's page helps nobody)."""
    try:
        error = response.json()["error"]
        text = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {text}"


def _retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, given as seconds or as a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - now()).total_seconds())
    except (ValueError, TypeError):
        return None


def _pause(attempt: int, asked_for: float | None) -> float:
    """Seconds before the next try: what the server asks for, else doubling with jitter, so that clients do not come back together."""
    if asked_for is not None:
        return min(asked_for, LONGEST_PAUSE)
    return float(min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE) * random.uniform(0.5, 1.0))
