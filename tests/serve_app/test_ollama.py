"""Ollama's protocol as its clients speak it: JSON lines, durations in nanoseconds, errors as one text."""

import json
from typing import Any

import httpx
import pytest

from cluster.catalog import conversations
from tests.serve_app.conftest import House, embedder
from tests.serve_app.test_openai_client import WEATHER, tooled

__all__ = ["tooled"]
TALK = [{"role": "user", "content": "list the files"}]


async def lines(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """A stream read line by line, as the client does it; an error in it is raised."""
    found = []
    async with client.stream("POST", path, json=body) as answer:
        answer.raise_for_status()
        assert answer.headers["content-type"] == "application/x-ndjson"
        async for line in answer.aiter_lines():
            part = json.loads(line)
            assert "error" not in part, part
            found.append(part)
    return found


async def test_chat_streams_unless_it_is_told_not_to(house: House) -> None:
    async with house.client() as client:
        parts = await lines(client, "/api/chat", {"model": "linux:latest", "messages": TALK, "keep_alive": "5m"})
        whole = (await client.post("/api/chat", json={"model": "linux", "messages": TALK, "stream": False})).json()
    assert [part["done"] for part in parts] == [False] * (len(parts) - 1) + [True]
    assert {part["model"] for part in parts} == {"linux:latest"}
    assert "".join(part["message"]["content"] for part in parts) == whole["message"]["content"]
    assert whole["message"]["role"] == "assistant"
    for last in (parts[-1], whole):
        assert last["done_reason"] == "stop"
        assert (last["eval_count"], last["prompt_eval_count"] > 0) == (4, True)
        assert last["total_duration"] == last["prompt_eval_duration"] + last["eval_duration"] > 0
    with house.catalog.reading() as work:
        assert [turn.question for turn in conversations.recent(work)] == ["list the files"] * 2


async def test_generate_is_one_question(house: House) -> None:
    body = {"model": "starter", "prompt": "hello", "system": "Be brief.", "options": {"num_predict": 2, "num_ctx": 4096}}
    async with house.client() as client:
        parts = await lines(client, "/api/generate", body)
        loaded = (await client.post("/api/generate", json={"model": "starter"})).json()
    assert "".join(part["response"] for part in parts) == "base heard"
    assert parts[-1]["done_reason"] == "length"
    assert (loaded["done"], loaded["done_reason"]) == (True, "load")


async def test_options_and_format_reach_the_engine(house: House) -> None:
    options = {"temperature": 0.3, "top_k": 9, "repeat_penalty": 1.2, "stop": ["x"], "seed": 4, "num_predict": -1}
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    async with house.client() as client:
        for form in ("json", schema):
            body = {"model": "linux", "messages": TALK, "stream": False, "options": options, "format": form}
            assert (await client.post("/api/chat", json=body)).status_code == 200
    first, second = house.engine.asked
    assert (first.temperature, first.stop, first.seed, first.max_tokens) == (0.3, ("x",), 4, 32)
    assert first.extra == {"top_k": 9, "repetition_penalty": 1.2, "structured_outputs": {"json_object": True}}
    assert second.extra["structured_outputs"] == {"json": schema}


async def test_tools_are_called_with_objects_for_arguments(tooled: House) -> None:
    body = {"model": "linux", "messages": [{"role": "user", "content": "rain in Bern?"}], "tools": [WEATHER]}
    async with tooled.client() as client:
        (only,) = await lines(client, "/api/chat", body)
        calls = only["message"]["tool_calls"]
        answered = [*body["messages"], only["message"], {"role": "tool", "content": "heavy rain", "tool_name": "weather"}]
        (last,) = await lines(client, "/api/chat", {**body, "messages": answered})
    assert calls == [{"function": {"name": "weather", "arguments": {"city": "Bern"}}}]
    assert last["message"]["content"] == "It rains."


async def test_tags_show_version_and_embed(house: House) -> None:
    house.release("linux", "0.1.0")
    async with house.client() as client:
        tags = (await client.get("/api/tags")).json()["models"]
        shown = (await client.post("/api/show", json={"model": "linux@0.1.0"})).json()
        version = (await client.get("/api/version")).json()["version"]
        vectors = (await client.post("/api/embed", json={"model": "minilm", "input": ["a", "b"]})).json()["embeddings"]
    assert [model["name"] for model in tags][:2] == ["auto", "linux"]
    assert {"name", "model", "modified_at", "size", "digest", "details"} <= set(tags[0])
    architecture = shown["model_info"]["general.architecture"]
    assert shown["model_info"][f"{architecture}.context_length"] == house.settings.engine.max_model_len
    assert shown["capabilities"] == ["completion"]
    assert "Write one shell command." not in json.dumps(shown)
    assert version[0].isdigit()
    assert vectors[0] == pytest.approx(embedder().embed(["a"])[0].tolist(), abs=1e-5)
    assert len(vectors) == 2


async def test_the_content_type_does_not_matter(house: House) -> None:
    async with house.client() as client:
        body = json.dumps({"model": "linux", "prompt": "x", "stream": False})
        form = {"content-type": "application/x-www-form-urlencoded"}
        assert (await client.post("/api/generate", content=body, headers=form)).status_code == 200
        assert (await client.post("/api/generate", content="{no json", headers=form)).status_code == 400


@pytest.mark.parametrize(
    ("path", "body", "status", "named"),
    [
        ("/api/chat", {"model": "linx", "messages": TALK}, 404, "linux"),
        ("/api/chat", {"model": "linux", "messages": [{"role": "robot", "content": "x"}]}, 400, "role"),
        ("/api/chat", {"model": "linux", "messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, 400, "images"),
        ("/api/chat", {"model": "linux", "messages": TALK, "format": "xml"}, 400, "xml"),
        ("/api/chat", {"model": "linux", "messages": TALK, "options": {"temperature": "hot"}}, 400, "temperature"),
        ("/api/chat", {"messages": TALK}, 400, "model"),
        ("/api/generate", {"model": "linux", "prompt": "x", "raw": True}, 400, "/v1/completions"),
        ("/api/show", {"model": "nobody"}, 404, "nobody"),
        ("/api/embed", {"model": "nobody", "input": "x"}, 404, "minilm"),
        ("/api/pull", {"model": "linux"}, 404, "/api/pull"),
    ],
)
async def test_errors_are_one_text(house: House, path: str, body: dict[str, Any], status: int, named: str) -> None:
    async with house.client() as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    assert named in answer.json()["error"]


async def test_a_key_is_needed_as_everywhere(house: House) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(house.app), base_url="http://treadle") as nobody:
        for method, path in (("POST", "/api/chat"), ("POST", "/api/generate"), ("GET", "/api/tags"), ("POST", "/api/show")):
            body = None if method == "GET" else {"model": "linux", "messages": TALK, "prompt": "x"}
            assert (await nobody.request(method, path, json=body)).status_code == 401
