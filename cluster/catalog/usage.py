"""What was used, counted by every replica for itself: a row for each subject, period and replica, so that writers never meet."""

from datetime import datetime
from typing import Mapping

from sqlalchemy import delete, func, select

from cluster.catalog.tables import usage
from cluster.catalog.transaction import Work
from cluster.domain.base import now

Slot = tuple[str, str]
"""A subject and a period: ``("tokens/ada", "2026-11-22")``."""


def write(work: Work, replica: str, amounts: Mapping[Slot, tuple[int, datetime]]) -> None:
    """Replace this replica's own counts; each comes with the end of its period."""
    for (subject, period), (amount, ends_at) in amounts.items():
        work.put(usage, {"subject": subject, "period": period, "replica": replica, "amount": amount, "ends_at": ends_at})


def of_others(work: Work, replica: str) -> dict[Slot, int]:
    """What all other replicas counted in periods that are not over."""
    total = func.sum(usage.c.amount)
    statement = select(usage.c.subject, usage.c.period, total).where(usage.c.replica != replica, usage.c.ends_at > now())
    return {(row[0], row[1]): int(row[2]) for row in work.run(statement.group_by(usage.c.subject, usage.c.period))}


def let_go(work: Work) -> None:
    """Remove the counts of periods that are over."""
    work.run(delete(usage).where(usage.c.ends_at <= now()))
