"""A run: one execution of a job. It is in the catalog before it is in Ray."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from cluster.domain.base import Frozen, new_id, now

RunState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
MAX_ATTEMPTS = 3
JOBS = (
    "data_jobs.ingest",
    "data_jobs.conversations",
    "data_jobs.synthesise",
    "data_jobs.signals",
    "train_jobs.sft",
    "train_jobs.dpo",
    "train_jobs.tune",
    "train_jobs.router_head",
    "train_jobs.evaluate",
    "train_jobs.calibrate",
    "train_jobs.gate",
    "train_jobs.export",
)
"""The jobs that control may launch, by module name."""


class Run(Frozen):
    """``progress`` is 0 to 1; ``result`` is what the job returned; ``error`` is one sentence."""

    id: str = Field(default_factory=lambda: new_id("run"))
    job: str
    recipe: dict[str, Any] = Field(default_factory=dict)
    state: RunState = "queued"
    attempts: int = 0
    progress: float = 0.0
    message: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: str | None = None
    submission_id: str | None = None
    created_at: datetime = Field(default_factory=now)
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def title(self) -> str:
        """The job and what it is about, for people: ``sft linux``."""
        keys = ("challenger", "agent", "corpus", "release")
        inner = self.recipe.get("base")
        known = {**inner, **self.recipe} if isinstance(inner, dict) else self.recipe
        about = next((str(known[key]) for key in keys if known.get(key)), "")
        return f"{self.job.rpartition('.')[2]} {about}".strip()

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to this run."""
        return self.state in ("succeeded", "failed", "cancelled")
