"""Who answers: an agent's card. A release carries a copy of the whole card, so what was evaluated is what is served."""

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


class GenerationSettings(Frozen):
    """How an answer is sampled. ``temperature`` 0 is greedy."""

    max_tokens: int = Field(default=128, ge=1, le=32768)
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    stop: tuple[str, ...] = ()


class Agent(Frozen):
    """Prompt, corpora, rules, generation settings and routing examples of one agent."""

    name: Name
    display_name: str = ""
    description: str = ""
    prompt: str = ""
    corpora: tuple[Name, ...] = ()
    top_k: int = Field(default=3, ge=1, le=50)
    min_score: float = Field(default=0.0, ge=0.0, le=1.0, description="passages less similar (cosine) than this are left out")
    rules: tuple[Rule, ...] = ()
    generation: GenerationSettings = GenerationSettings()
    examples: tuple[str, ...] = ()
    default: bool = False
    visible: bool = True
