"""The whole OpenAPI document, walked with generated requests: whatever is sent, the answer is a status below 500 and one sentence.

Bodies and parameters are made from the document's own schemas, then spoiled: values of other types, missing and unknown keys, texts with
control characters and lone surrogates, numbers beyond every bound, bytes that are no JSON.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog, agents
from cluster.settings import Settings
from tests.serve_app.conftest import CARDS, House, chat, sentence

TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", " ", "\x00", "\ud800", "'", '"', "../..", "%00", "linux", "linux@base", "auto", "ada", "a" * 5000, "٣", "🙂"]
    ),
)
NUMBERS = st.one_of(
    st.integers(-3, 100),
    st.sampled_from([2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, -1e308, 0.5, float("inf"), float("nan")]),
)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
METHODS = ("get", "post", "put", "patch", "delete")
EXAMPLES = 60


class Loop:
    """The house on an event loop of its own: hypothesis calls plain functions, and the gateway's tasks must outlive each of them."""

    def __init__(self, house: Callable[[], Coroutine[Any, Any, House]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.house = self.run(house())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    def close(self) -> None:
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        await self.house.gateway.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@pytest.fixture
def on_loop(settings: Settings, catalog: Catalog, artifacts: Artifacts, tmp_path: Path) -> Iterator[Loop]:
    async def made() -> House:
        with catalog.transaction() as work:
            for card in CARDS:
                agents.save(work, card)
        house = House(settings, catalog, artifacts, tmp_path)
        await house.gateway.following.look()
        return house

    loop = Loop(made)
    yield loop
    loop.close()


def resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def values(schema: dict[str, Any], document: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """Values that the schema allows, one in six of them spoiled."""
    schema = resolved(schema, document)
    good = _good(schema, document, depth)
    return st.integers(0, 5).flatmap(lambda pick: ANYTHING if pick == 0 else good)


def _good(schema: dict[str, Any], document: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    inner = partial(values, document=document, depth=depth + 1)
    if depth > 6:
        return st.none()
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    several = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if several:
        return st.one_of([inner(one) for one in several])
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        known, needed = schema.get("properties", {}), set(schema.get("required", []))
        fields = {name: inner(one) for name, one in known.items()}
        rest = {name: one for name, one in fields.items() if name not in needed}
        whole = st.fixed_dictionaries({name: one for name, one in fields.items() if name in needed}, optional=rest)
        more = st.dictionaries(TEXTS, ANYTHING, max_size=1)
        return st.integers(0, 7).flatmap(lambda pick: st.builds(lambda a, b: {**a, **b}, whole, more) if pick == 0 else whole)
    if kind == "array":
        items = schema.get("items", {})
        return st.lists(inner(items), min_size=min(schema.get("minItems", 0), 3), max_size=3)
    plain = {"integer": NUMBERS, "number": NUMBERS, "boolean": st.booleans(), "null": st.none(), "string": TEXTS}
    return plain.get(str(kind), ANYTHING)


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, one) for path, item in document["paths"].items() for method, one in item.items() if method in METHODS]


def requests(operation: dict[str, Any], document: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Everything that a request of this operation may be."""
    parameters = operation.get("parameters", [])
    places = {one["name"]: values(one["schema"], document) for one in parameters if one["in"] == "path"}
    queries = {one["name"]: values(one["schema"], document) for one in parameters if one["in"] == "query"}
    content = operation.get("requestBody", {}).get("content", {})
    bodies: st.SearchStrategy[bytes] = st.just(b"")
    if content:
        schema = next(iter(content.values())).get("schema", {})
        shaped = values(schema, document).map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
        bodies = st.one_of(
            shaped, shaped, shaped, st.binary(max_size=40), st.sampled_from([b"", b"null", b"[]", b'"x"', b"{", b"NaN"])
        )
    headers = st.sampled_from(
        [{"content-type": "application/json"}] * 4 + [{}, {"content-type": "text/plain"}, {"cookie": "treadle_session=x"}]
    )
    return st.fixed_dictionaries(
        {
            "places": st.fixed_dictionaries(places),
            "query": st.fixed_dictionaries({}, optional=queries),
            "body": bodies,
            "headers": headers,
        }
    )


def written(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


async def send(house: House, key: str, method: str, path: str, made: dict[str, Any]) -> httpx.Response:
    for name, value in made["places"].items():
        for shape in (f"{{{name}}}", f"{{{name}:path}}"):
            path = path.replace(shape, written(value) or "x")
    query = "&".join(f"{name}={written(value)}" for name, value in made["query"].items())
    transport = httpx.ASGITransport(house.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://treadle", timeout=60) as client:
        headers = {"authorization": f"Bearer {key}", **made["headers"]}
        return await client.request(method, f"{path}?{query}" if query else path, content=made["body"], headers=headers)


def walk(on_loop: Loop, key: str, number: int, operation: tuple[str, str, dict[str, Any]], document: dict[str, Any]) -> None:
    method, path, described = operation

    @seed(number)
    @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
    @given(requests(described, document))
    def each(made: dict[str, Any]) -> None:
        answer = on_loop.run(send(on_loop.house, key, method, path, made))
        assert answer.status_code < 500 or answer.status_code == 503, f"{method} {path}: {answer.text[:500]}"
        if 400 <= answer.status_code < 500:
            message = sentence(answer)
            assert message
            assert "Traceback" not in message

    each()


def test_no_request_that_the_document_allows_or_forbids_is_a_500(on_loop: Loop) -> None:
    document = on_loop.house.app.openapi()
    key = on_loop.house.key("root", "admin")
    found = operations(document)
    assert len(found) >= 20
    failed = []
    for number, operation in enumerate(found):
        try:
            walk(on_loop, key, number, operation, document)
        except BaseExceptionGroup as several:
            failed += [str(one) for one in several.exceptions]
        except Exception as error:  # all operations are walked, so that one run tells of all of them
            failed.append(f"{operation[0]} {operation[1]}: {type(error).__name__}: {error} {getattr(error, '__notes__', '')}")
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("text", ["\ud800", "\x00", "a\ud800b", "🙂" * 300, "٣" * 50])
def test_a_question_of_odd_characters_is_answered_or_refused(on_loop: Loop, text: str) -> None:
    key = on_loop.house.key("ada")
    for made in (
        chat("linux", text),
        chat(text),
        chat("linux", "hello", stop=[text]),
        chat("linux", treadle={"conversation_id": text[:20]}),
    ):
        body = {"places": {}, "query": {}, "body": json.dumps(made).encode(), "headers": {"content-type": "application/json"}}
        answer = on_loop.run(send(on_loop.house, key, "post", "/v1/chat/completions", body))
        assert answer.status_code in (200, 400, 404), f"{made}: {answer.text[:300]}"


def test_what_the_document_says_of_itself_is_whole(on_loop: Loop) -> None:
    document = on_loop.house.app.openapi()
    for method, path, operation in operations(document):
        assert operation.get("description"), f"{method} {path} says nothing of itself"
        for one in operation.get("parameters", []):
            resolved(one["schema"], document)
