"""The audit log. There is no way to change or remove an entry: the database itself refuses both."""

from sqlalchemy import select

from cluster.catalog.tables import audit
from cluster.catalog.transaction import Work
from cluster.domain.audit import AuditEntry


def record(work: Work, *entries: AuditEntry) -> None:
    """Add entries; those of a change go in the transaction that makes it."""
    for entry in entries:
        row = {"at": entry.at, "user": entry.user[:64], "action": entry.action, "body": entry.model_dump(mode="json")}
        work.run(audit.insert().values(**row))


def recent(work: Work, limit: int = 100, user: str | None = None, action: str | None = None) -> list[AuditEntry]:
    """The newest entries first; of one user, or of one kind of action."""
    statement = select(audit.c.body).order_by(audit.c.id.desc()).limit(limit)
    if user is not None:
        statement = statement.where(audit.c.user == user)
    if action is not None:
        statement = statement.where(audit.c.action == action)
    return work.bodies(AuditEntry, statement)
