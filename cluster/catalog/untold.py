"""What MLflow was to be told of runs and did not hear, in order: ``run`` is MLflow's id, or the stand-in of a run it never opened."""

from typing import Any, NamedTuple

from sqlalchemy import delete, func, select

from cluster.catalog.tables import untold
from cluster.catalog.transaction import Work


class Entry(NamedTuple):
    """One thing to tell."""

    id: int
    body: dict[str, Any]


def add(work: Work, run: str, body: dict[str, Any]) -> None:
    """Keep something to tell, after what waits already."""
    work.run(untold.insert().values(run=run, body=body))


def runs(work: Work) -> list[str]:
    """The runs of which something waits, the one that waits longest first."""
    statement = select(untold.c.run).group_by(untold.c.run).order_by(func.min(untold.c.id))
    return [str(row[0]) for row in work.run(statement)]


def of_run(work: Work, run: str) -> list[Entry]:
    """What waits of a run, in order."""
    return [Entry(row.id, row.body) for row in work.run(select(untold).where(untold.c.run == run).order_by(untold.c.id))]


def told(work: Work, entry: Entry) -> None:
    """MLflow has it now."""
    work.run(delete(untold).where(untold.c.id == entry.id))
