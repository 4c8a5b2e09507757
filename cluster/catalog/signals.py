"""Signals, and the ledger of what became of each."""

from datetime import datetime
from typing import Sequence

from sqlalchemy import exists, func, select, update

from cluster.catalog.tables import ledger, signals, trials, turns
from cluster.catalog.transaction import Work
from cluster.domain.signals import Signal

_NOT_ON_TRIAL = ~exists().where(trials.c.id == turns.c.id, trials.c.arm == "challenger")


def record(work: Work, recorded: Sequence[Signal]) -> None:
    """Keep signals. A newer signal on a turn sends the turn back to curation."""
    for signal in recorded:
        row = {
            "id": signal.id,
            "turn_id": signal.turn_id,
            "kind": signal.kind,
            "user": signal.user,
            "created_at": signal.created_at,
            "curated": False,
            "body": signal.model_dump(mode="json"),
        }
        work.add_missing(signals, row)


def waiting(work: Work) -> list[Signal]:
    """Signals that are in no dataset yet, oldest first."""
    statement = select(signals.c.body).where(signals.c.curated.is_(False)).order_by(signals.c.created_at)
    return work.bodies(Signal, statement)


def of_turns(work: Work, turn_ids: Sequence[str]) -> list[Signal]:
    """All signals on these turns, oldest first."""
    statement = select(signals.c.body).where(signals.c.turn_id.in_(list(turn_ids))).order_by(signals.c.created_at)
    return work.bodies(Signal, statement)


def recent(work: Work, limit: int = 100) -> list[Signal]:
    """The newest signals first."""
    return work.bodies(Signal, select(signals.c.body).order_by(signals.c.created_at.desc()).limit(limit))


def thumbs(work: Work) -> list[Signal]:
    """All thumbs, the newest first."""
    return work.bodies(Signal, select(signals.c.body).where(signals.c.kind == "thumb").order_by(signals.c.created_at.desc()))


def mark_curated(work: Work, ids: Sequence[str]) -> None:
    """These signals have been looked at and turned into what they become."""
    work.run(update(signals).where(signals.c.id.in_(list(ids))).values(curated=True))


def link(work: Work, signal_id: str, kind: str, ref: str) -> None:
    """Note in the ledger what a signal became: ``kind`` is dataset, question or none; ``ref`` names it."""
    work.add_missing(ledger, {"signal_id": signal_id, "kind": kind, "ref": ref})


def links(work: Work, signal_ids: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """What became of each signal: ``{signal id: [(kind, ref), …]}``."""
    found: dict[str, list[tuple[str, str]]] = {one: [] for one in signal_ids}
    statement = select(ledger).where(ledger.c.signal_id.in_(list(signal_ids))).order_by(ledger.c.kind, ledger.c.ref)
    for row in work.run(statement):
        found[row.signal_id].append((row.kind, row.ref))
    return found


def became(work: Work, kind: str, ref: str) -> dict[str, int]:
    """How many signals of each kind became a thing (the other way through the ledger): ``{signal kind: count}``."""
    statement = (
        select(signals.c.kind, func.count())
        .select_from(ledger.join(signals, ledger.c.signal_id == signals.c.id))
        .where(ledger.c.kind == kind, ledger.c.ref == ref)
        .group_by(signals.c.kind)
        .order_by(signals.c.kind)
    )
    return {str(row[0]): int(row[1]) for row in work.run(statement)}


def failures(work: Work, agent: str, start: datetime, end: datetime) -> tuple[int, int]:
    """How many of an agent's answers failed their validation, of how many, from ``start`` up to ``end``. Without those of challengers on
    trial, which say nothing of the champion."""
    inside = (turns.c.agent == agent, turns.c.created_at >= start, turns.c.created_at < end, _NOT_ON_TRIAL)
    asked = work.run(select(func.count()).select_from(turns).where(*inside)).scalar_one()
    failed = select(func.count(func.distinct(turns.c.id))).select_from(turns.join(signals, signals.c.turn_id == turns.c.id))
    return int(work.run(failed.where(*inside, signals.c.kind == "failed_validation")).scalar_one()), int(asked)


def thumbs_down(work: Work, agent: str, start: datetime, end: datetime) -> tuple[int, int]:
    """How many of the thumbs on an agent's answers were down, of how many, by when the answers were given. The newest of each turn;
    without those on challengers on trial."""
    statement = (
        select(signals.c.turn_id, signals.c.body)
        .select_from(turns.join(signals, signals.c.turn_id == turns.c.id))
        .where(
            turns.c.agent == agent,
            turns.c.created_at >= start,
            turns.c.created_at < end,
            signals.c.kind == "thumb",
            _NOT_ON_TRIAL,
        )
        .order_by(signals.c.created_at)
    )
    newest = {row.turn_id: row.body["value"] for row in work.run(statement)}
    return sum(value == "down" for value in newest.values()), len(newest)
