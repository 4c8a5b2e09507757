"""What the guard did, newest first."""

from typing import Sequence

from sqlalchemy import select

from cluster.catalog.tables import guard_events
from cluster.catalog.transaction import Work
from cluster.domain.guard_events import GuardEvent


def record(work: Work, events: Sequence[GuardEvent]) -> None:
    """Keep events."""
    for one in events:
        row = {"id": one.id, "user": one.user, "action": one.action, "created_at": one.created_at}
        work.add_missing(guard_events, {**row, "body": one.model_dump(mode="json")})


def recent(work: Work, limit: int = 100, user: str | None = None, action: str | None = None) -> list[GuardEvent]:
    """The newest events, of one user or one action if given."""
    statement = select(guard_events.c.body).order_by(guard_events.c.created_at.desc(), guard_events.c.id).limit(limit)
    if user is not None:
        statement = statement.where(guard_events.c.user == user)
    if action is not None:
        statement = statement.where(guard_events.c.action == action)
    return work.bodies(GuardEvent, statement)
