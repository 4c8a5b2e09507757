"""What the replicas of the service count: a row for each, and one for the totals of those that are gone."""

from datetime import datetime
from typing import Mapping, NamedTuple

from sqlalchemy import delete, select, update

from cluster.catalog.tables import meters
from cluster.catalog.transaction import Work
from cluster.domain.base import now, with_zone

GONE = "gone"


class Counted(NamedTuple):
    """A replica's counters, by series, and when it said so."""

    replica: str
    counters: dict[str, float]
    updated_at: datetime


def begin(work: Work, replica: str, counters: Mapping[str, float]) -> None:
    """A replica's first row."""
    work.put(meters, {"replica": replica, "body": dict(counters), "updated_at": now()})


def go_on(work: Work, replica: str, counters: Mapping[str, float]) -> bool:
    """Its newest counters. False when its row is not there any more, because it was taken for gone."""
    done = work.run(update(meters).where(meters.c.replica == replica).values(body=dict(counters), updated_at=now()))
    return bool(done.rowcount)


def everything(work: Work) -> list[Counted]:
    """All rows, that of the gone ones too."""
    return [Counted(row.replica, row.body, with_zone(row.updated_at)) for row in work.run(select(meters))]


def fold(work: Work, before: datetime) -> int:
    """Move the counters of replicas that have been silent since ``before`` to the total of the gone; how many they were."""
    work.serialise(meters)
    silent = [one for one in everything(work) if one.updated_at < before and one.replica != GONE]
    if silent:
        work.run(delete(meters).where(meters.c.replica.in_([one.replica for one in silent])))
        total = summed([*silent, *(one for one in everything(work) if one.replica == GONE)])
        begin(work, GONE, total)
    return len(silent)


def summed(rows: list[Counted]) -> dict[str, float]:
    """Series by series."""
    total: dict[str, float] = {}
    for row in rows:
        for series, value in row.counters.items():
            total[series] = total.get(series, 0.0) + value
    return total
