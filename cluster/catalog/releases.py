"""Releases and their aliases. Promotion moves an alias in one transaction, and every move is kept."""

from typing import Literal

from sqlalchemy import delete, select

from cluster.catalog.tables import alias_moves, aliases, releases, retirements
from cluster.catalog.transaction import Work
from cluster.domain.base import now, with_zone
from cluster.domain.releases import CHAMPION, AliasMove, Release, standing
from cluster.domain.versions import Version, split_ref
from cluster.errors import Conflict, InvalidInput, NotFound, near


def add(work: Work, release: Release) -> None:
    """Record a release. Written once and never changed: raises Conflict when the version is taken."""
    body = release.model_dump(mode="json")
    row = {"agent": release.agent, "version": release.version, "created_at": release.created_at, "body": body}
    if not work.add_missing(releases, row):
        raise Conflict(f"Release '{release.ref}' exists and releases are never changed; register a higher version.")


def of_agent(work: Work, agent: str) -> list[Release]:
    """All releases of an agent, newest version first."""
    found = work.bodies(Release, select(releases.c.body).where(releases.c.agent == agent))
    return sorted(found, key=lambda release: Version.parse(release.version), reverse=True)


def everything(work: Work) -> list[Release]:
    """All releases, newest first."""
    return work.bodies(Release, select(releases.c.body).order_by(releases.c.created_at.desc()))


def get(work: Work, ref: str) -> Release:
    """By ``agent@version`` or ``agent@alias`` or ``agent`` (its champion). Raises NotFound naming what there is."""
    agent, version = split_ref(ref)
    version = version or CHAMPION
    version = alias(work, agent, version) or version
    statement = select(releases.c.body).where(releases.c.agent == agent, releases.c.version == version)
    found = work.body(Release, statement)
    if found is not None:
        return found
    known = [release.version for release in of_agent(work, agent)]
    if known:
        close = near(version, known, most=1)
        hint = f"the nearest is {close[0]}, the newest {known[0]}" if close else f"the newest is {known[0]}"
        raise NotFound(f"Agent '{agent}' has no release {version}; {hint} (treadle releases list {agent}).")
    raise NotFound(f"Agent '{agent}' has no releases yet (treadle train sft makes one).")


def alias(work: Work, agent: str, name: str) -> str | None:
    """The version an alias of the agent points to, or None."""
    row = work.run(select(aliases.c.version).where(aliases.c.agent == agent, aliases.c.alias == name)).first()
    return None if row is None else str(row[0])


def champion(work: Work, agent: str) -> Release | None:
    """The release that answers for the agent, if one was promoted."""
    version = alias(work, agent, CHAMPION)
    return get(work, f"{agent}@{version}") if version else None


def all_aliases(work: Work) -> dict[tuple[str, str], str]:
    """``{(agent, alias): version}``; what the gateway follows."""
    return {(row.agent, row.alias): row.version for row in work.run(select(aliases))}


def serialise(work: Work) -> None:
    """Let no other transaction move an alias until this one ends: what is read of them from here on stays so."""
    work.serialise(aliases)


def move_alias(
    work: Work, agent: str, name: str, version: str | None, reason: str, kind: Literal["move", "rollback"] = "move"
) -> str | None:
    """Point an alias of the agent at ``version`` (None: remove it); returns where it pointed before. Moves are made one after another:
    each one's ``before`` is the ``after`` of the move before it. Raises NotFound when there is no such release.
    """
    serialise(work)
    before = alias(work, agent, name)
    if before == version:
        return before
    if version is None:
        work.run(delete(aliases).where(aliases.c.agent == agent, aliases.c.alias == name))
    else:
        get(work, f"{agent}@{version}")
        work.put(aliases, {"agent": agent, "alias": name, "version": version})
    move = {"agent": agent, "alias": name, "before": before, "after": version, "reason": reason[:400], "moved_at": now()}
    work.run(alias_moves.insert().values(**move, kind=kind))
    return before


def moves(work: Work, agent: str, name: str = CHAMPION) -> list[AliasMove]:
    """Every move of an alias, oldest first."""
    statement = select(alias_moves).where(alias_moves.c.agent == agent, alias_moves.c.alias == name).order_by(alias_moves.c.id)
    return [
        AliasMove(before=row.before, after=row.after, reason=row.reason, kind=row.kind, moved_at=with_zone(row.moved_at))
        for row in work.run(statement)
    ]


def previous(work: Work, agent: str, name: str = CHAMPION) -> str:
    """The version to go back to: the one before the present one, not counting what was rolled back and what is retired, so that
    going back twice goes two versions back. Raises Conflict when there is none."""
    present = alias(work, agent, name)
    if present is None:
        raise InvalidInput(f"Agent '{agent}' has no {name}; treadle releases promote {agent}@VERSION makes one.")
    gone = retired(work)
    line = [version for version in standing(moves(work, agent, name)) if f"{agent}@{version}" not in gone]
    before = next((version for version in reversed(line) if version != present), None)
    if before is None:
        raise Conflict(f"Agent '{agent}' has had no {name} before {present}; there is nothing to roll back to.")
    return before


def retire(work: Work, release: Release, reason: str) -> None:
    """Take a release out of use for good. Raises Conflict while an alias points to it, or when it is retired already."""
    serialise(work)
    for (agent, name), version in all_aliases(work).items():
        if (agent, version) == (release.agent, release.version):
            raise Conflict(
                f"Release '{release.ref}' is the {name} of '{agent}'; promote or register another one first, then retire it."
            )
    row = {"agent": release.agent, "version": release.version, "reason": reason[:400], "retired_at": now()}
    if not work.add_missing(retirements, row):
        raise Conflict(f"Release '{release.ref}' is retired already: {retired(work)[release.ref]}.")


def retired(work: Work) -> dict[str, str]:
    """The releases that are retired, and why: ``{agent@version: reason}``."""
    return {f"{row.agent}@{row.version}": row.reason for row in work.run(select(retirements))}
