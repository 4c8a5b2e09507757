"""Experiments: a challenger on trial beside its agent's champion, in traffic.

split    a share of the conversations is answered by the challenger
canary   the same, with a small share, and the challenger may be promoted at the end
shadow   the champion answers all; a share of the questions is asked of the challenger as well, whose answers nobody sees
"""

import hashlib
from datetime import datetime
from typing import Any, Literal

from pydantic import Field, model_validator

from cluster.domain.base import Frozen, new_id, now

Kind = Literal["split", "canary", "shadow"]
State = Literal["running", "promoted", "rolled_back", "stopped", "ended"]
Arm = Literal["champion", "challenger"]
Metric = Literal["validation", "errors", "thumbs"]
SHARES: dict[Kind, float] = {"split": 0.5, "canary": 0.1, "shadow": 1.0}
"""How much of the traffic is on trial when nobody says."""


class ExperimentSettings(Frozen):
    """How an experiment is judged. ``alpha`` is the risk, over the whole experiment and all ``metrics`` together, that a challenger that
    is no worse is called worse.

    ``promote``: a canary becomes champion when, after ``min_turns`` of its own, each metric is proved better, or proved worse by no more
    than ``tolerance`` (a difference of rates). ``shadow_at_once`` shadows are asked at most by each replica, and none while the engine
    writes ``shadow_busy`` answers or more.
    """

    metrics: tuple[Metric, ...] = Field(default=("validation", "errors", "thumbs"), min_length=1, max_length=3)
    alpha: float = Field(default=0.05, gt=0.0, lt=0.5)
    min_turns: int = Field(default=100, ge=1)
    auto_rollback: bool = True
    promote: bool = False
    tolerance: float = Field(default=0.05, ge=0.0, lt=1.0)
    shadow_at_once: int = Field(default=2, ge=1, le=32)
    shadow_busy: int = Field(default=8, ge=1)


class Experiment(Frozen):
    """``champion`` and ``challenger`` are releases (``agent@version``; the champion may be ``agent@base``), ``share`` is one of
    conversations.

    It ends ``promoted``, ``rolled_back`` (proved worse), ``stopped`` (by a person) or ``ended`` (there was nothing left to compare).
    """

    id: str = Field(default_factory=lambda: new_id("exp"))
    agent: str
    kind: Kind
    champion: str
    challenger: str
    share: float = Field(gt=0.0, le=1.0)
    settings: ExperimentSettings = ExperimentSettings()
    state: State = "running"
    reason: str = ""
    started_by: str = ""
    started_at: datetime = Field(default_factory=now)
    ended_at: datetime | None = None

    @model_validator(mode="after")
    def _can_be_judged(self) -> "Experiment":
        if self.kind != "shadow" and self.share >= 1.0:
            raise ValueError(
                f"a {self.kind} with share {self.share:g} leaves the champion nothing to be compared with; take less than 1"
            )
        if self.settings.promote and self.kind != "canary":
            raise ValueError(f"only a canary promotes its challenger at the end, and this is a {self.kind}; leave 'promote' out")
        return self

    @property
    def watched(self) -> tuple[Metric, ...]:
        """The metrics that can decide. Nobody sees a shadow's answers, so there are no thumbs on them."""
        found = tuple(dict.fromkeys(self.settings.metrics))
        return tuple(one for one in found if one != "thumbs") if self.kind == "shadow" else found

    def drawn(self, conversation: str) -> bool:
        """Whether a conversation is among the share: the same answer in every process, and drawn anew for each experiment."""
        digest = hashlib.sha256(f"{self.id}/{conversation}".encode()).digest()
        return int.from_bytes(digest[:8]) / 2**64 < self.share


class InExperiment(Frozen):
    """A turn's part in an experiment. ``fallback``: the challenger could not answer, so the champion did, and it counts for neither.

    ``shadow_of`` is the turn whose question a shadow was asked, ``talk`` what stands for the conversation of a client that names none.
    """

    id: str
    arm: Arm
    fallback: bool = False
    shadow_of: str | None = None
    talk: str | None = None

    def shown(self) -> dict[str, Any]:
        """As the answer says it."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"talk"})


class Trial(Frozen):
    """What is counted of one answer, or of one that failed (``error``). ``id`` is the turn's, where there is one; ``failed``: it broke a
    rule; ``seconds`` to its end."""

    id: str
    arm: Arm
    release: str
    conversation: str
    failed: bool = False
    error: bool = False
    seconds: float | None = None
    shadow_of: str | None = None


class JudgedTurn(Frozen):
    """A thumb on a turn of an experiment."""

    turn: str
    conversation: str
    arm: Arm
    down: bool
