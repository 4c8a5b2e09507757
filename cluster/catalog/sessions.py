"""Logins: the sessions behind browsers' cookies."""

from datetime import datetime
from typing import Mapping

from sqlalchemy import delete, select, update

from cluster.catalog.tables import sessions
from cluster.catalog.transaction import Work
from cluster.domain.base import now, with_zone
from cluster.domain.users import Session


def save(work: Work, session: Session) -> None:
    """Keep a login, and let go of those that are over."""
    work.run(delete(sessions).where(sessions.c.expires_at < now()))
    body = session.model_dump(mode="json", exclude={"last_used_at"})
    work.put(sessions, {"hash": session.hash, "user": session.user, "expires_at": session.expires_at, "body": body})


def find(work: Work, digest: str) -> Session | None:
    """The login whose cookie has this SHA-256, unless it is unknown, ended or expired."""
    row = work.run(select(sessions.c.body, sessions.c.last_used_at).where(sessions.c.hash == digest)).first()
    if row is None:
        return None
    used = with_zone(row[1]) if row[1] else None
    found = Session.model_validate({**row[0], "last_used_at": used})
    return found if found.expires_at > now() else None


def end(work: Work, digest: str) -> None:
    """Log out: the cookie is worth nothing any more."""
    work.run(delete(sessions).where(sessions.c.hash == digest))


def end_all(work: Work, user: str, but: str | None = None) -> None:
    """Log a user out everywhere, except from the session with the hash ``but``."""
    work.run(delete(sessions).where(sessions.c.user == user, sessions.c.hash != (but or "")))


def used(work: Work, when: Mapping[str, datetime]) -> None:
    """Note when sessions were last used, by hash."""
    for digest, moment in when.items():
        work.run(update(sessions).where(sessions.c.hash == digest).values(last_used_at=moment))
