"""Datasets: immutable, content-addressed rows where each row names what it came from.

Rows are semantic (question, passages, answer), never rendered text: ``cluster.domain.prompts`` renders them, for training as for
serving, so a prompt contract changes in one place.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from cluster.domain.base import Frozen, Name, digest_of, now
from cluster.domain.conversations import Message


class SftRow(Frozen):
    """A question and the answer to learn."""

    kind: Literal["sft"] = "sft"
    question: str = Field(min_length=1)
    history: tuple[Message, ...] = ()
    passages: tuple[str, ...] = ()
    answer: str = Field(min_length=1)
    source: str


class DpoRow(Frozen):
    """A question, the answer people want and the one they do not."""

    kind: Literal["dpo"] = "dpo"
    question: str = Field(min_length=1)
    history: tuple[Message, ...] = ()
    passages: tuple[str, ...] = ()
    chosen: str = Field(min_length=1)
    rejected: str = Field(min_length=1)
    source: str


class RouterRow(Frozen):
    """A text and the agent that should answer it; ``agent`` None means out of scope."""

    kind: Literal["router"] = "router"
    text: str = Field(min_length=1)
    agent: str | None
    source: str


class GuardRow(Frozen):
    """A text and whether it is an attack. ``lookalike``: ordinary, though it is worded like one; ``place``: a user's question, or a
    passage that was retrieved."""

    kind: Literal["guard"] = "guard"
    text: str = Field(min_length=1)
    label: Literal["attack", "ordinary", "lookalike"]
    place: Literal["input", "passages"] = "input"
    source: str


Row = Annotated[SftRow | DpoRow | RouterRow | GuardRow, Field(discriminator="kind")]
DatasetKind = Literal["sft", "dpo", "router", "guard"]


class Dataset(Frozen):
    """The record of a dataset; its rows lie at ``uri`` as JSONL. ``digest`` is over the rows, in order."""

    digest: str
    name: Name
    kind: DatasetKind
    agent: str | None = None
    rows: int = Field(ge=1)
    uri: str
    sources: dict[str, int] = Field(default_factory=dict)
    created_at: datetime = Field(default_factory=now)

    @property
    def ref(self) -> str:
        """``name@digest12``: how people name one dataset of a series."""
        return f"{self.name}@{self.digest[:12]}"


def rows_digest(rows: list[Row]) -> str:
    """SHA-256 over the rows' canonical JSON, in order."""
    return digest_of([row.model_dump(mode="json") for row in rows])
