"""Who answers: an agent's card. A release carries a copy of the whole card, so what was evaluated is what is served."""

from typing import Annotated, Any, Callable, Literal

from pydantic import Field

from cluster.domain.base import Frozen, Name
from cluster.domain.validation import Rule

BASE_VERSION = "base"
"""``agent@base`` answers with the agent's prompt and corpora on the bare base model: the yardstick of a first release."""

ROUTER = "router"
"""The reserved name under which router heads are released."""

GUARD = "guard"
"""The reserved name under which the guard's classifiers are released."""

RESERVED = (ROUTER, GUARD)
"""Names of releases that nobody talks to."""


NOTHING_SAID = "My documents say nothing about that."


class GenerationSettings(Frozen):
    """How an answer is sampled. ``temperature`` 0 is greedy."""

    max_tokens: int = Field(default=128, ge=1, le=32768)
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    stop: tuple[str, ...] = ()


def _default(value: Any) -> Callable[[Any], bool]:
    """Leaves a field out of a card that does not use it, so that its release's digest stays what it was before there was the field."""
    return lambda held: bool(held == value)


class Agent(Frozen):
    """Prompt, corpora, rules, generation settings and routing examples of one agent.

    ``passage_tokens``: passages fill that many tokens of the prompt at most, the best first; "auto": what the model takes less question,
    history and answer; None: all that were found. ``shorten_history``: the oldest messages go when the talk gets too long, in place of an
    error. ``when_nothing`` "say": where no passage is good enough (``min_score``), ``nothing_said`` is the answer. ``rewrite``: the
    finalist makes a query of a question and its history; None: where it is another model than the base. ``fuse``: the finalist makes
    the answer, from the passages and the adapter's own.
    """

    name: Name
    display_name: str = ""
    description: str = ""
    prompt: str = ""
    corpora: tuple[Name, ...] = ()
    top_k: int = Field(default=3, ge=1, le=50)
    min_score: float = Field(default=0.0, ge=0.0, le=1.0, description="passages less similar (cosine) than this are left out")
    passage_tokens: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(default=None, exclude_if=_default(None))
    shorten_history: bool = Field(default=False, exclude_if=_default(False))
    when_nothing: Literal["answer", "say"] = Field(default="answer", exclude_if=_default("answer"))
    nothing_said: str = Field(default=NOTHING_SAID, min_length=1, max_length=2000, exclude_if=_default(NOTHING_SAID))
    rewrite: bool | None = Field(default=None, exclude_if=_default(None))
    fuse: bool = Field(default=False, exclude_if=_default(False))
    rules: tuple[Rule, ...] = ()
    correct: bool = Field(
        default=False,
        exclude_if=lambda value: not value,  # cards without it keep their digests
        description="an answer that is not streamed and breaks a rule is asked for once more",
    )
    generation: GenerationSettings = GenerationSettings()
    examples: tuple[str, ...] = ()
    default: bool = False
    visible: bool = True
    hands_over_to: tuple[Name, ...] = Field(
        default=(), max_length=64, description="agents that may answer in its place: when all it says is [[handover:NAME]]"
    )
