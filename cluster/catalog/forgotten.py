"""What was asked to be forgotten, and what is marked to be made again without it."""

from typing import Sequence

from sqlalchemy import delete, or_, select

from cluster.catalog.tables import (
    answered_once,
    conversations,
    forgotten,
    guard_events,
    ledger,
    rebuilds,
    signals,
    trials,
    turns,
)
from cluster.catalog.transaction import Work
from cluster.domain.base import now
from cluster.domain.conversations import Turn


def remember(work: Work, kind: str, ref: str, corpus: str = "") -> None:
    """Note that a document (by source, in one corpus) or a user is forgotten. Twice is once."""
    work.add_missing(forgotten, {"kind": kind, "ref": ref, "corpus": corpus, "forgotten_at": now()})


def documents(work: Work, corpus: str) -> list[str]:
    """The sources that are forgotten in a corpus ("" stands for conversation files)."""
    statement = select(forgotten.c.ref).where(forgotten.c.kind == "document", forgotten.c.corpus == corpus)
    return [str(row[0]) for row in work.run(statement.order_by(forgotten.c.ref))]


def mark(work: Work, kind: str, ref: str, reason: str) -> None:
    """Mark a corpus, dataset or release as holding what is forgotten."""
    work.put(rebuilds, {"kind": kind, "ref": ref, "reason": reason[:400], "marked_at": now()})


def marks(work: Work, kind: str) -> dict[str, str]:
    """What is marked, and why."""
    return {row.ref: row.reason for row in work.run(select(rebuilds).where(rebuilds.c.kind == kind))}


def unmark(work: Work, kind: str, ref: str) -> None:
    """It was made again."""
    work.run(delete(rebuilds).where(rebuilds.c.kind == kind, rebuilds.c.ref == ref))


def delete_user(work: Work, user: str) -> tuple[int, int]:
    """Delete a user's conversations, their turns, the signals on them, the user's own, what the guard did about the user and what
    experiments counted of them; how many turns and signals went."""
    mine = select(turns.c.id).where(turns.c.user == user)
    theirs = or_(signals.c.user == user, signals.c.turn_id.in_(mine))
    work.run(delete(ledger).where(ledger.c.signal_id.in_(select(signals.c.id).where(theirs))))
    gone = work.run(delete(signals).where(theirs)).rowcount
    lost = work.run(delete(turns).where(turns.c.user == user)).rowcount
    work.run(delete(conversations).where(conversations.c.user == user))
    work.run(delete(answered_once).where(answered_once.c.user == user))
    work.run(delete(guard_events).where(guard_events.c.user == user))
    work.run(delete(trials).where(trials.c.user == user))
    return int(lost), int(gone)


def turns_of_user(work: Work, user: str) -> list[Turn]:
    """A user's turns."""
    return work.bodies(Turn, select(turns.c.body).where(turns.c.user == user))


def turns_citing(work: Work, document_ids: Sequence[str]) -> list[Turn]:
    """The turns that were answered from these documents."""
    wanted = set(document_ids)
    every = work.bodies(Turn, select(turns.c.body))
    return [turn for turn in every if any(passage.document_id in wanted for passage in turn.passages)]


def rewrite_turn(work: Work, turn: Turn) -> None:
    """Keep a turn under its id with another body."""
    work.run(turns.update().where(turns.c.id == turn.id).values(body=turn.model_dump(mode="json")))
