"""Conversations and turns: one question and its answer with everything decided on the way."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from cluster.domain.base import Frozen, new_id, now
from cluster.domain.validation import Validation


class Message(Frozen):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class Citation(Frozen):
    """A passage that the answer may point to as ``[number]``."""

    number: int
    passage_id: str
    document_id: str
    source: str
    text: str


class Route(Frozen):
    """How the agent was picked. ``scores`` are calibrated probabilities that sum to 1."""

    agent: str
    scores: dict[str, float] = Field(default_factory=dict)
    out_of_scope: bool = False
    chosen_by: Literal["router", "caller", "default"] = "caller"
    head: str | None = None


class Turn(Frozen):
    """One question and its answer. ``timings`` are seconds by stage, ``tokens`` counts by kind, ``metadata`` what the client said of it."""

    id: str = Field(default_factory=lambda: new_id("turn"))
    conversation_id: str
    user: str
    question: str
    history: tuple[Message, ...] = ()
    passages: tuple[Citation, ...] = ()
    answer: str
    agent: str
    release: str | None
    route: Route
    validation: Validation
    timings: dict[str, float] = Field(default_factory=dict)
    tokens: dict[str, int] = Field(default_factory=dict)
    metadata: dict[str, str] = Field(default_factory=dict)
    created_at: datetime = Field(default_factory=now)


class Conversation(Frozen):
    """A user's thread of turns."""

    id: str = Field(default_factory=lambda: new_id("conv"))
    user: str
    title: str = ""
    created_at: datetime = Field(default_factory=now)
