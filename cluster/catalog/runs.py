"""Runs: in the catalog before they are in Ray."""

from typing import Any

from sqlalchemy import select, update

from cluster.catalog.tables import runs
from cluster.catalog.transaction import Work
from cluster.domain.runs import Run
from cluster.domain.verdicts import Verdict
from cluster.errors import NotFound


def save(work: Work, run: Run) -> None:
    """Create or replace a run's record."""
    row = {"id": run.id, "job": run.job, "state": run.state, "created_at": run.created_at}
    work.put(runs, {**row, "body": run.model_dump(mode="json")})


def get(work: Work, run_id: str) -> Run:
    """Raises NotFound."""
    found = work.body(Run, select(runs.c.body).where(runs.c.id == run_id))
    if found is None:
        raise NotFound(f"There is no run '{run_id}'; treadle runs list shows them.")
    return found


def change(work: Work, run_id: str, **changes: Any) -> Run:
    """The run with some fields changed. A run that is over stays as it ended: late reports change nothing."""
    run = get(work, run_id)
    if run.over:
        return run
    run = Run.model_validate({**run.model_dump(), **changes})
    values = {"state": run.state, "body": run.model_dump(mode="json")}
    work.run(update(runs).where(runs.c.id == run_id).values(**values))
    return run


def recent(work: Work, limit: int = 50) -> list[Run]:
    """The newest runs first."""
    return work.bodies(Run, select(runs.c.body).order_by(runs.c.created_at.desc()).limit(limit))


def of_job(work: Work, job: str) -> list[Run]:
    """All runs of a job, the newest first."""
    return work.bodies(Run, select(runs.c.body).where(runs.c.job == job).order_by(runs.c.created_at.desc()))


def verdict(work: Work, release: str) -> Verdict | None:
    """What the gate said last of a release (``agent@version``); None when none has judged it."""
    for run in of_job(work, "train_jobs.gate"):
        if run.result and run.result["challenger"] == release:
            return Verdict.model_validate(run.result)
    return None
