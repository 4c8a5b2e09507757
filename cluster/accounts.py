"""Changes to users, keys and logins, each with its audit entry in the same transaction: what the routes and the command line share."""

from datetime import datetime, timedelta
from typing import Any, Iterable, NamedTuple

from cluster.access import OWN_USER
from cluster.catalog import Work, audit, sessions, users
from cluster.domain.audit import AuditEntry
from cluster.domain.base import now
from cluster.domain.parsing import parse
from cluster.domain.users import ApiKey, Role, Scope, Session, User, new_key, new_session, scopes_of
from cluster.errors import Conflict, Forbidden, Unauthenticated
from cluster.passwords import hashed, matches

MOST_DAYS = 3650


class Actor(NamedTuple):
    """Who changes something, and from where."""

    user: str
    origin: str

    def note(self, work: Work, action: str, target: str, **detail: Any) -> None:
        """The audit entry of a change."""
        entry = AuditEntry(user=self.user, origin=self.origin, action=action, target=target, detail=detail)
        audit.record(work, entry)


COMMAND_LINE = Actor(OWN_USER, "cli")


def add_user(work: Work, actor: Actor, name: str, role: Role, password: str | None) -> User:
    """A new user. Raises Conflict when the name is taken, InvalidInput when name or password cannot be used."""
    if name == OWN_USER:
        raise Conflict(f"'{OWN_USER}' is this machine's own command line; take another name.")
    kept = None if password is None else hashed(password)
    user: User = parse(User, {"name": name, "role": role, "password": kept}, "user")
    users.add(work, user)
    actor.note(work, "user.add", name, role=role)
    return user


def change_user(
    work: Work, actor: Actor, name: str, role: Role | None = None, disabled: bool | None = None, password: str | None = None
) -> User:
    """Change what is given. Whoever is disabled or gets another password is logged out everywhere. Raises NotFound."""
    before = users.get(work, name)
    changes: dict[str, Any] = {"role": role, "disabled": disabled, "password": None if password is None else hashed(password)}
    user = before.model_copy(update={key: value for key, value in changes.items() if value is not None})
    users.save(work, user)
    if disabled or password is not None:
        sessions.end_all(work, name)
    said = {"role": role, "disabled": disabled, "password": "changed" if password is not None else None}
    actor.note(work, "user.change", name, **{key: value for key, value in said.items() if value is not None})
    return user


def change_own_password(work: Work, actor: Actor, old: str, new: str, session: str) -> None:
    """Needs the old one. Logs out everywhere but in ``session`` (its hash). Raises Unauthenticated."""
    user = users.get(work, actor.user)
    if not matches(old, user.password):
        raise Unauthenticated("The old password is not right; an admin can set a new one.")
    users.save(work, user.model_copy(update={"password": hashed(new)}))
    sessions.end_all(work, user.name, but=session)
    actor.note(work, "user.password", user.name)


def log_in(work: Work, actor: Actor, user: User) -> tuple[str, Session]:
    """A session for a user whose password was right: the cookie's text, and its record."""
    text, session = new_session(user.name)
    sessions.save(work, session)
    actor.note(work, "login", user.name)
    return text, session


def add_key(
    work: Work,
    actor: Actor,
    user: str,
    role: Role,
    scopes: Iterable[Scope] | None = None,
    days: float | None = None,
    until: datetime | None = None,
) -> tuple[str, ApiKey]:
    """A new key: its text, and its record. It ends after ``days``, and at ``until`` at the latest.

    Raises Forbidden for scopes that the role has not.
    """
    beyond = set(scopes or ()) - scopes_of(role)
    if beyond:
        raise Forbidden(f"A key of a {role} cannot have the scope '{min(beyond)}'; {', '.join(sorted(scopes_of(role)))} it can.")
    ends = [moment for moment in (until, now() + timedelta(days=days) if days is not None else None) if moment is not None]
    text, key = new_key(user, role, scopes, min(ends, default=None))
    key = parse(ApiKey, key.model_dump(), "key")
    users.save_key(work, key)
    actor.note(work, "key.add", key.prefix, user=user, role=role, scopes=key.scopes, expires_at=str(key.expires_at or ""))
    return text, key


def revoke_key(work: Work, actor: Actor, prefix: str, user: str | None = None) -> ApiKey:
    """Refuse a key from now on; with ``user``, only if it is theirs. Raises NotFound."""
    gone = users.revoke(work, prefix, user)
    actor.note(work, "key.revoke", prefix, user=gone.user)
    return gone
