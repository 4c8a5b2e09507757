"""Ollama's API over the same agents, for clients that speak nothing else. The key is sent as everywhere: Authorization: Bearer KEY.

Models are neither pulled nor pushed here, and a context is not carried over as token ids: send the messages.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from cluster.base_model import config
from cluster.domain.parsing import parse
from cluster.errors import InvalidInput, NotFound, TreadleError
from serve_app.answer import Answer
from serve_app.ask import Ask
from serve_app.bases import Base
from serve_app.gateway import BROKE_OFF, Gateway
from serve_app.identity import Identity
from serve_app.routes.access import Caller, Parts
from serve_app.routes.chat import completion
from serve_app.routes.chat_request import ChatRequest
from serve_app.routes.counting import CountedRoute
from serve_app.routes.leaving import unless_left

log = logging.getLogger(__name__)


class AnyTypeRoute(CountedRoute):
    """Takes a body for JSON whatever its content type says: Ollama does, and its users' curl commands count on it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def as_json(request: Request) -> Response:
            others = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
            return await handle(
                Request({**request.scope, "headers": [*others, (b"content-type", b"application/json")]}, request.receive)
            )

        return as_json


router = APIRouter(route_class=AnyTypeRoute)
Json = dict[str, Any]
ModelName = Annotated[str, Field(min_length=1, max_length=200)]
_OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "stop": "stop",
    "repeat_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}


class Wish(BaseModel):
    """What chat and generate have in common. Options that concern a local runner (num_ctx, num_gpu, …) have no effect."""

    model_config = ConfigDict(extra="ignore")

    model: ModelName
    stream: bool | None = None
    format: str | Json | None = None
    options: Json | None = Field(default=None, max_length=100)

    def sampling(self) -> Json:
        """OpenAI's words for it."""
        given = {ours: self.options[theirs] for theirs, ours in _OPTIONS.items() if self.options and theirs in self.options}
        most = (self.options or {}).get("num_predict")
        if isinstance(most, int) and most > 0:  # -1 and -2 mean: as long as it takes
            given["max_tokens"] = most
        if isinstance(self.format, dict):
            given["response_format"] = {"type": "json_schema", "json_schema": {"schema": self.format}}
        elif self.format:
            if self.format != "json":
                raise InvalidInput(f"'format' is '{self.format[:40]}'; send 'json' or a JSON schema.")
            given["response_format"] = {"type": "json_object"}
        return {"model": self.model.removesuffix(":latest"), **given}

    @property
    def streams(self) -> bool:
        """Ollama streams unless it is told not to."""
        return self.stream is not False


class OllamaMessage(BaseModel):
    model_config = ConfigDict(extra="ignore")

    role: str = Field(max_length=20)
    content: str | None = None
    images: list[str] | None = None
    tool_calls: list[Json] | None = Field(default=None, max_length=128)
    tool_name: str | None = Field(default=None, max_length=64)


class ChatWish(Wish):
    messages: list[OllamaMessage] = Field(default_factory=list, max_length=2000)
    tools: list[Json] | None = Field(default=None, max_length=128)


class GenerateWish(Wish):
    prompt: str = ""
    system: str | None = None
    raw: bool | None = None
    images: list[str] | None = None


class ShowWish(BaseModel):
    model_config = ConfigDict(extra="ignore")

    model: ModelName | None = None
    name: ModelName | None = None


class EmbedWish(BaseModel):
    model_config = ConfigDict(extra="ignore")

    model: ModelName
    input: str | Annotated[list[Annotated[str, Field(max_length=65_536)]], Field(max_length=512)]


def _message(one: OllamaMessage) -> Json:
    if one.images:
        raise InvalidInput("The base model reads no images; send text.")
    message: Json = {"role": one.role, "content": one.content or ""}
    if one.tool_calls:
        message["tool_calls"] = [_call(call) for call in one.tool_calls]
    return message


def _call(call: Json) -> Json:
    function = call.get("function")
    if not isinstance(function, dict):
        raise InvalidInput("A tool call has a 'function' with 'name' and 'arguments'.")
    return {"function": {"name": function.get("name"), "arguments": json.dumps(function.get("arguments", {}))}}


@router.post("/api/chat", response_model=None)
async def chat(body: ChatWish, request: Request, parts: Parts, caller: Caller) -> Response:
    """Ollama's chat; ``tools`` and ``format`` are passed through."""
    if not body.messages:
        return await _loaded(parts, caller, body.model, {"message": {"role": "assistant", "content": ""}})
    whole = {**body.sampling(), "messages": [_message(one) for one in body.messages], "tools": body.tools}
    return await _answered(parts, request, body, whole, caller, _said)


@router.post("/api/generate", response_model=None)
async def generate(body: GenerateWish, request: Request, parts: Parts, caller: Caller) -> Response:
    """Ollama's generate: one question."""
    if body.raw or body.images:
        raise InvalidInput("Raw prompts are continued by POST /v1/completions, and images are not read; send a plain prompt.")
    if not body.prompt:
        return await _loaded(parts, caller, body.model, {"response": ""})
    messages = [{"role": "system", "content": body.system}] if body.system else []
    whole = {**body.sampling(), "messages": [*messages, {"role": "user", "content": body.prompt}]}
    return await _answered(parts, request, body, whole, caller, _responded)


def _said(text: str, calls: list[Json]) -> Json:
    return {"message": {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}}


def _responded(text: str, calls: list[Json]) -> Json:
    return {"response": text}


async def _loaded(parts: Gateway, caller: Identity, model: str, piece: Json) -> Response:
    """A request without a question loads the model, which is loaded."""
    name = model.removesuffix(":latest")
    if name not in await parts.live.names(caller):
        raise await parts.live.unknown(name, caller)
    return JSONResponse({"model": model, "created_at": _moment(), **piece, "done": True, "done_reason": "load"})


async def _answered(parts: Gateway, request: Request, body: Wish, whole: Json, caller: Identity, piece: Any) -> Response:
    asked: ChatRequest = parse(ChatRequest, {**whole, "stream": body.streams and not whole.get("tools")}, "the request")
    ask = asked.ask(caller)
    if ask.stream:
        answer = await parts.answering.begin(ask)
        return StreamingResponse(_lines(answer, body.model, piece), media_type="application/x-ndjson")
    made = await unless_left(request, completion(parts, ask))
    found = _whole(ask, made, body.model, piece)
    if body.streams:  # with tools an answer comes in one piece: whether it calls is known at its end
        return Response(json.dumps(found) + "\n", media_type="application/x-ndjson")
    return JSONResponse(found)


def _whole(ask: Ask, made: Json, model: str, piece: Any) -> Json:
    choice = made["choices"][0]
    calls = [
        {"function": {"name": call["function"]["name"], "arguments": _arguments(call["function"]["arguments"])}}
        for call in choice["message"].get("tool_calls", ())
    ]
    reason = "length" if choice["finish_reason"] == "length" else "stop"
    usage, timings = made["usage"], made["treadle"]["timings"]
    numbers = _numbers(usage["prompt_tokens"], usage["completion_tokens"], timings)
    text = choice["message"]["content"] or ""
    return {"model": model, "created_at": _moment(), **piece(text, calls), "done": True, "done_reason": reason, **numbers}


def _arguments(text: str) -> Json:
    """A call's arguments as an object, which Ollama's clients expect; of a call that was cut off nothing is left."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


async def _lines(answer: Answer, model: str, piece: Any) -> AsyncIterator[str]:
    try:
        async for delta in answer.deltas():
            if delta.text:
                yield json.dumps({"model": model, "created_at": _moment(), **piece(delta.text, []), "done": False}) + "\n"
    except TreadleError as error:
        yield json.dumps({"error": error.message}) + "\n"
        return
    except Exception:  # the edge: the status line is out, so the stream itself has to say it
        log.exception("a stream broke")
        yield json.dumps({"error": BROKE_OFF}) + "\n"
        return
    numbers = _numbers(answer.tokens["prompt"], answer.tokens["completion"], answer.about["timings"])
    last = {"model": model, "created_at": _moment(), **piece("", []), "done": True, "done_reason": answer.finish_reason}
    yield json.dumps({**last, **numbers}) + "\n"


def _numbers(prompt: int, completion: int, timings: dict[str, float]) -> Json:
    """Ollama's counters; durations in nanoseconds."""
    first, total = int(timings["first_token"] * 1e9), int(timings["total"] * 1e9)
    return {
        "total_duration": total,
        "load_duration": 0,
        "prompt_eval_count": prompt,
        "prompt_eval_duration": first,
        "eval_count": completion,
        "eval_duration": total - first,
    }


def _moment() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@router.get("/api/tags")
async def tags(parts: Parts, caller: Caller) -> Json:
    """Every name that answers."""
    moment, details = _moment(), {base.name: _details(base) for base in parts.bases}
    models = []
    for name, release in (await parts.live.listed(caller)).items():
        base = parts.bases.behind(name, release)
        one = {"name": name, "model": name, "modified_at": moment, "size": 0, "digest": _digest(name)}
        models.append({**one, "details": details[base.name]})
    return {"models": models}


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _details(base: Base) -> Json:
    return {
        "parent_model": base.name,
        "format": "safetensors",
        "family": base.name,
        "families": [base.name],
        "parameter_size": "",
        "quantization_level": "",
    }


@router.post("/api/show")
async def show(body: ShowWish, parts: Parts, caller: Caller) -> Json:
    """What is behind a name. An agent's prompt is not shown."""
    name = (body.model or body.name or "").removesuffix(":latest")
    listed = await parts.live.listed(caller)
    if name not in listed:
        raise await parts.live.unknown(name, caller)
    base = parts.bases.behind(name, listed[name])
    template = str(base.tokenizer.chat_template or "")
    architecture = await asyncio.to_thread(_architecture, base)
    return {
        "modelfile": f"FROM {name}\n",
        "parameters": "",
        "template": template,
        "details": _details(base),
        "model_info": {
            "general.architecture": architecture,
            "general.basename": base.name,
            f"{architecture}.context_length": base.max_model_len,
        },
        "capabilities": ["completion", *(["tools"] if "tools" in template else [])],
        "modified_at": _moment(),
    }


def _architecture(base: Base) -> str:
    try:
        return str(config(base.role.location).get("model_type", "unknown"))
    except NotFound:  # a hub id
        return "unknown"


@router.post("/api/embed")
async def embed(body: EmbedWish, parts: Parts, caller: Caller) -> Json:
    """Vectors by the served embedder."""
    name = parts.settings.models.embedder.name
    if body.model.removesuffix(":latest") != name:
        raise NotFound(f"There is no embedder '{body.model}'; the served one is '{name}'.")
    texts = [body.input] if isinstance(body.input, str) else body.input
    vectors = [[float(value) for value in row] for row in await parts.answering.embed(texts)] if texts else []
    return {"model": body.model, "embeddings": vectors}


@router.get("/api/version")
async def which(caller: Caller) -> dict[str, str]:
    """Treadle's own."""
    return {"version": version("treadle")}
