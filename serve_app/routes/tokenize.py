"""/tokenize and /detokenize as vLLM defines them: the tokens of the base that ``model`` answers on, the first without one."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict, Field

from cluster.errors import InvalidInput
from serve_app.bases import Base
from serve_app.gateway import Gateway
from serve_app.identity import Identity
from serve_app.routes.access import Caller, Parts
from serve_app.routes.counting import CountedRoute

router = APIRouter(route_class=CountedRoute)


class PlainMessage(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=400_000)


class TokenizeRequest(BaseModel):
    """``prompt`` or ``messages``; the messages are rendered by the base's chat template, without any agent's prompt."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = Field(default=None, max_length=200)
    prompt: str | None = Field(default=None, max_length=400_000)
    messages: list[PlainMessage] | None = Field(default=None, min_length=1, max_length=2000)
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = True
    return_token_strs: bool | None = None


class DetokenizeRequest(BaseModel):
    model_config = ConfigDict(extra="ignore")

    model: str | None = Field(default=None, max_length=200)
    tokens: list[Annotated[int, Field(ge=0)]] = Field(max_length=400_000)


@router.post("/tokenize")
async def tokenize(body: TokenizeRequest, parts: Parts, caller: Caller) -> dict[str, Any]:
    """The tokens of a text or of messages."""
    base = await _base(parts, body.model, caller)
    if (body.prompt is None) == (body.messages is None):
        raise InvalidInput("Send either 'prompt' or 'messages'.")
    ids = await asyncio.to_thread(_ids, base.tokenizer, body)
    found: dict[str, Any] = {"count": len(ids), "max_model_len": base.max_model_len, "tokens": ids}
    if body.return_token_strs:
        found["token_strs"] = base.tokenizer.convert_ids_to_tokens(ids)
    return found


def _ids(tokenizer: Any, body: TokenizeRequest) -> list[int]:
    if body.prompt is not None:
        return list(tokenizer.encode(body.prompt, add_special_tokens=body.add_special_tokens is not False))
    messages = [message.model_dump() for message in body.messages or ()]
    try:
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=body.add_generation_prompt, tokenize=True, return_dict=False
        )
    except (TemplateError, ValueError) as error:
        raise InvalidInput(f"The base model's chat template does not take these messages: {error}; send others.") from None
    return list(ids)


@router.post("/detokenize")
async def detokenize(body: DetokenizeRequest, parts: Parts, caller: Caller) -> dict[str, str]:
    """The text of tokens."""
    tokenizer = (await _base(parts, body.model, caller)).tokenizer
    if body.tokens and max(body.tokens) >= len(tokenizer):
        raise InvalidInput(f"Token {max(body.tokens)} is none; the model's tokens are 0 to {len(tokenizer) - 1}.")
    return {"prompt": await asyncio.to_thread(tokenizer.decode, body.tokens)}


async def _base(parts: Gateway, model: str | None, caller: Identity) -> Base:
    if model is None:
        return parts.bases.first
    listed = await parts.live.listed(caller)
    if model not in listed:
        raise await parts.live.unknown(model, caller)
    return parts.bases.behind(model, listed[model])
