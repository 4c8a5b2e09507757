"""What the guard did: one event for each text that was blocked, flagged or logged, and for each user held to a stricter policy."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from cluster.domain.base import Frozen, new_id, now


class GuardEvent(Frozen):
    """Holds no text: what was answered stands in its turn, and what was refused nowhere. ``patterns`` are names of the bank's. ``action``
    anomaly: the user is held to ``policy`` from then on. ``about`` is the passage that was left out."""

    id: str = Field(default_factory=lambda: new_id("guard"))
    user: str
    place: Literal["input", "passages", "output"]
    policy: str
    action: Literal["log", "flag", "block", "anomaly"]
    kinds: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    score: float | None = None
    agent: str | None = None
    about: str = ""
    created_at: datetime = Field(default_factory=now)
