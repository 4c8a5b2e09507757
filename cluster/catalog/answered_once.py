"""Answers that are given once for a user's idempotency key, whichever replica is asked."""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import delete, select, update

from cluster.catalog.tables import answered_once
from cluster.catalog.transaction import Work
from cluster.domain.base import now


class Kept(NamedTuple):
    """What a key was used for; ``body`` None while the answer is being made."""

    digest: str
    body: dict[str, Any] | None


def let_go(work: Work) -> None:
    """Delete what has expired."""
    work.run(delete(answered_once).where(answered_once.c.expires_at < now()))


def claim(work: Work, user: str, key: str, digest: str, until: datetime) -> Kept | None:
    """None when the key is free: it is the caller's now, until then. Otherwise what it was used for."""
    let_go(work)
    if work.add_missing(answered_once, {"user": user, "key": key, "digest": digest, "body": None, "expires_at": until}):
        return None
    row = work.run(select(answered_once).where(answered_once.c.user == user, answered_once.c.key == key)).first()
    return None if row is None else Kept(row.digest, row.body)


def keep(work: Work, user: str, key: str, body: dict[str, Any], until: datetime) -> None:
    """The answer is made."""
    mine = (answered_once.c.user == user, answered_once.c.key == key)
    work.run(update(answered_once).where(*mine).values(body=body, expires_at=until))


def release(work: Work, user: str, key: str) -> None:
    """There will be no answer: whoever asks next makes it."""
    work.run(delete(answered_once).where(answered_once.c.user == user, answered_once.c.key == key))
