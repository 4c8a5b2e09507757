"""Whatever a client sends is answered or refused, and never a 500: every field of every route, with every kind of nonsense in it."""

import json
import time
from typing import Any

import pytest
from pydantic import SecretStr

from serve_app import voice
from tests.serve_app.conftest import House, chat
from tests.serve_app.test_openai_client import WEATHER, call, tooled

__all__ = ["tooled"]
SECRET = "0123456789abcdef" * 2
TALK = [{"role": "user", "content": "list the files"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        **chat("linux"),
        "tools": [WEATHER],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        "messages": [*TALK, {"role": "assistant", "tool_calls": [call()]}, {"role": "tool", "content": "x", "tool_call_id": "1"}],
        "treadle": {"record": False, "conversation_id": None},
        "metadata": {"a": "b"},
    },
    "/v1/completions": {"model": "starter", "prompt": "one two"},
    "/v1/embeddings": {"model": "minilm", "input": "one"},
    "/tokenize": {"prompt": "one"},
    "/detokenize": {"tokens": [1, 2]},
    "/v1/signals": {"turn_id": "turn_x", "kind": "thumb", "value": "up"},
    "/api/chat": {"model": "linux", "messages": TALK, "options": {"seed": 1}, "tools": [WEATHER], "format": {"type": "object"}},
    "/api/generate": {"model": "linux", "prompt": "x", "options": {"stop": ["a"], "num_predict": 3}},
    "/api/show": {"model": "linux"},
    "/api/embed": {"model": "minilm", "input": ["a"]},
    "/v1/voice/chat/completions": {**chat("linux"), "call": {"id": "c", "customer": {"a": 1}}, "metadata": {"x": [1]}},
    "/v1/voice/webhook": {
        "message": {"type": "end-of-call-report", "call": {"id": "c"}, "messages": [{"role": "user", "content": "x"}]}
    },
}
NONSENSE: list[Any] = [
    None,
    True,
    "",
    "x",
    "\ud800",
    "a\x00b",
    0,
    -1,
    10**40,
    -(1 << 63),
    0.5,
    float("nan"),
    float("inf"),
    [],
    [None],
    [[]],
    ["x", 1],
    {},
    {"\ud800": "\ud800"},
    {"type": "x", "function": {}},
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything in a body."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    if isinstance(value, list):
        for number, inner in enumerate(value):
            found += places(inner, (*path, number))
    return found


def with_at(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The body with something else at one place."""
    if not path:
        return new
    first, *rest = path
    if isinstance(value, list):
        return [with_at(inner, tuple(rest), new) if number == first else inner for number, inner in enumerate(value)]
    return {**value, first: with_at(value.get(first), tuple(rest), new)}


@pytest.mark.parametrize("path", BODIES)
async def test_nonsense_anywhere_is_refused_or_borne(tooled: House, path: str) -> None:
    router = tooled.settings.router.model_copy(update={"voice_secret": SecretStr(SECRET)})
    tooled.gateway.settings = tooled.settings.model_copy(update={"router": router})
    schema = tooled.app.openapi()
    body = BODIES[path]
    known = schema["paths"][path]["post"].get("requestBody")
    fields = (
        schema["components"]["schemas"][known["content"]["application/json"]["schema"]["$ref"].split("/")[-1]] if known else {}
    )
    where = [*places(body), *((name,) for name in fields.get("properties", {}) if name not in body)]
    statuses = set()
    async with tooled.client() as client:
        for at in [(), *where]:
            for value in NONSENSE:
                sent = json.dumps(with_at(body, at, value)).encode()
                signed = {"X-Treadle-Signature": voice.sign(SECRET, int(time.time()), sent), "content-type": "application/json"}
                answer = await client.post(path, content=sent, headers=signed)
                assert answer.status_code < 500, (at, value, answer.text)
                assert "event: error" not in answer.text
                assert "broke off" not in answer.text, (at, value)
                statuses.add(answer.status_code)
    assert len(statuses) > 1, "some of it must have been answered and some refused"
