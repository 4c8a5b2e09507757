"""Conversations and turns: one question and its answer with everything decided on the way."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from cluster.domain.base import Frozen, new_id, now
from cluster.domain.experiments import InExperiment
from cluster.domain.readers import may_read
from cluster.domain.response_parsing import Stripped
from cluster.domain.users import Access, Person
from cluster.domain.validation import Validation

WITHHELD = "[withheld: it rests on documents that are not for you]"


class Message(Frozen):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class Citation(Frozen):
    """A passage that the answer may point to as ``[number]``: characters ``start`` to ``end`` of the washed document, on ``page`` (from 1)
    where it has pages. ``readers``: who may read it, where not everybody may."""

    number: int
    passage_id: str
    document_id: str
    source: str
    page: int | None = None
    start: int | None = None
    end: int | None = None
    text: str
    readers: Access | None = Field(default=None, exclude_if=lambda value: value is None)


class Route(Frozen):
    """How the agent was picked. ``scores`` are calibrated probabilities that sum to 1.

    ``chosen_by``: ``conversation`` (who answered its last turn), ``handover`` (``handed_from`` says by whom), ``reply`` (the person's, to a
    question back). ``sentence`` says that the answer is the service's own and no agent's, so nobody learns from it; a question back
    names the ``offered`` agents.
    """

    agent: str
    scores: dict[str, float] = Field(default_factory=dict)
    out_of_scope: bool = False
    chosen_by: Literal["router", "caller", "default", "conversation", "handover", "reply"] = "caller"
    head: str | None = None
    handed_from: str | None = None
    sentence: Literal["asked_back", "handed_over", "not_handed_over"] | None = None
    offered: tuple[str, ...] = ()


class Correction(Frozen):
    """What became of an answer that broke rules and was asked for once more. The ``first`` one broke ``failures``, for ``reasons``; the
    second one breaks those that are ``left``. The one that was ``kept`` is the turn's answer."""

    first: str
    failures: tuple[str, ...]
    reasons: tuple[str, ...]
    left: tuple[str, ...] = ()
    kept: Literal["first", "second"]


class Turn(Frozen):
    """One question and its answer. ``history`` and ``passages`` are those that the model was shown. ``query`` is what was searched for,
    where it is not the question; ``draft`` the adapter's own answer, where the finalist wrote the answer; ``stripped`` what was written
    around the answer. ``timings`` are seconds by stage, ``tokens`` counts by kind, ``flags`` what was noticed on the way, ``metadata`` what
    the client said of it."""

    id: str = Field(default_factory=lambda: new_id("turn"))
    conversation_id: str
    user: str
    question: str
    history: tuple[Message, ...] = ()
    query: str | None = None
    passages: tuple[Citation, ...] = ()
    draft: str | None = None
    answer: str
    agent: str
    release: str | None
    route: Route
    validation: Validation
    correction: Correction | None = Field(default=None, exclude_if=lambda value: value is None)
    stripped: Stripped | None = Field(default=None, exclude_if=lambda value: value is None)
    timings: dict[str, float] = Field(default_factory=dict)
    tokens: dict[str, int] = Field(default_factory=dict)
    flags: tuple[str, ...] = ()
    metadata: dict[str, str] = Field(default_factory=dict)
    experiment: InExperiment | None = None
    created_at: datetime = Field(default_factory=now)

    @property
    def restricted(self) -> bool:
        """Whether it rests on passages that not everybody may read."""
        return any(passage.readers is not None for passage in self.passages)

    def shown_to(self, person: Person) -> dict[str, Any]:
        """The turn as somebody may see it: what was said to others from passages that this person may not read is withheld."""
        whole = self.model_dump(mode="json", exclude={"passages": {"__all__": {"readers"}}})
        hidden = {passage.number for passage in self.passages if not may_read(passage.readers, person)}
        if not hidden or person.user == self.user:
            return whole
        for passage in whole["passages"]:
            if passage["number"] in hidden:
                passage.update(source="", text=WITHHELD)
        for message in whole["history"]:
            if message["role"] == "assistant":
                message["content"] = WITHHELD
        withheld = {"answer": WITHHELD, "draft": whole["draft"] and WITHHELD}
        return {name: value for name, value in {**whole, **withheld}.items() if name not in ("correction", "stripped")}


class LastTurn(Frozen):
    """What the next turn of a conversation needs to know of the last one."""

    agent: str
    question: str
    route: Route


class Conversation(Frozen):
    """A user's thread of turns."""

    id: str = Field(default_factory=lambda: new_id("conv"))
    user: str
    title: str = ""
    created_at: datetime = Field(default_factory=now)
