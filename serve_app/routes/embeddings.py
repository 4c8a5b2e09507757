"""/v1/embeddings as OpenAI defines it, by the embedder that routes and retrieves."""

import asyncio
import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from cluster.embedding import Vectors
from cluster.errors import InvalidInput, NotFound
from serve_app.gateway import Gateway
from serve_app.routes.access import Caller, Parts
from serve_app.routes.counting import CountedRoute

router = APIRouter(route_class=CountedRoute)
MOST_TEXTS = 512
AT_ONCE = 16
"""Texts a step, so that questions that are to be routed come in between."""

Text = Annotated[str, Field(min_length=1, max_length=65_536)]


class EmbeddingRequest(BaseModel):
    """``input`` is a text or up to 512 of them; what a text says past the embedder's limit of tokens is not seen."""

    model_config = ConfigDict(extra="ignore")

    model: str = Field(max_length=200)
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1)


@router.post("/v1/embeddings")
async def embed(body: EmbeddingRequest, parts: Parts, caller: Caller) -> dict[str, Any]:
    """Unit vectors of texts."""
    name = parts.settings.models.embedder.name
    if body.model != name:
        raise NotFound(f"There is no embedder '{body.model}'; the served one is '{name}'.")
    dimension = parts.answering.embedder.dimension
    if body.dimensions not in (None, dimension):
        raise InvalidInput(f"'{name}' gives vectors of {dimension} numbers, not {body.dimensions}; leave 'dimensions' out.")
    texts = [body.input] if isinstance(body.input, str) else body.input
    vectors, tokens = await _vectors(parts, texts)
    data = [
        {"object": "embedding", "index": number, "embedding": _written(vector, body.encoding_format == "base64")}
        for number, vector in enumerate(vectors)
    ]
    return {"object": "list", "model": name, "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


async def _vectors(parts: Gateway, texts: list[str]) -> tuple[Vectors, int]:
    found, tokens = [], 0
    for start in range(0, len(texts), AT_ONCE):
        some = texts[start : start + AT_ONCE]
        found.append(await parts.answering.embed(some))
        tokens += await asyncio.to_thread(parts.answering.embedder.count, some)
    return np.concatenate(found), tokens


def _written(vector: Vectors, as_base64: bool) -> str | list[float]:
    if as_base64:
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]
