"""Releases and their aliases. Promotion moves an alias in one transaction, and every move is kept."""

from sqlalchemy import delete, select

from cluster.catalog.tables import alias_moves, aliases, releases
from cluster.catalog.transaction import Work
from cluster.domain.base import now
from cluster.domain.releases import CHAMPION, Release
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


def all_aliases(work: Work) -> dict[tuple[str, str], str]:
    """``{(agent, alias): version}``; what the gateway follows."""
    return {(row.agent, row.alias): row.version for row in work.run(select(aliases))}


def move_alias(work: Work, agent: str, name: str, version: str | None, reason: str) -> str | None:
    """Point an alias of the agent at ``version`` (None: remove it); returns where it pointed before.

    Raises NotFound when there is no such release.
    """
    before = alias(work, agent, name)
    if before == version:
        return before
    if version is None:
        work.run(delete(aliases).where(aliases.c.agent == agent, aliases.c.alias == name))
    else:
        get(work, f"{agent}@{version}")
        work.put(aliases, {"agent": agent, "alias": name, "version": version})
    move = {"agent": agent, "alias": name, "before": before, "after": version, "reason": reason[:400], "moved_at": now()}
    work.run(alias_moves.insert().values(**move))
    return before


def previous(work: Work, agent: str, name: str = CHAMPION) -> str:
    """The version the alias pointed to before its present one. Raises Conflict when it never moved."""
    present = alias(work, agent, name)
    if present is None:
        raise InvalidInput(f"Agent '{agent}' has no {name}; treadle releases promote {agent}@VERSION makes one.")
    statement = (
        select(alias_moves.c.before)
        .where(alias_moves.c.agent == agent, alias_moves.c.alias == name, alias_moves.c.after == present)
        .order_by(alias_moves.c.id.desc())
    )
    row = work.run(statement).first()
    if row is None or row[0] is None:
        raise Conflict(f"Agent '{agent}' has had no {name} before {present}; there is nothing to roll back to.")
    return str(row[0])
