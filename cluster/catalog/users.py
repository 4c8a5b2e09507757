"""Users, and API keys and whose they are."""

from datetime import datetime
from typing import Any, Mapping

from sqlalchemy import select, update

from cluster.catalog.tables import api_keys, users
from cluster.catalog.transaction import Work
from cluster.domain.base import now, with_zone
from cluster.domain.users import ApiKey, User
from cluster.errors import Conflict, NotFound, near


def add(work: Work, user: User) -> None:
    """Keep a new user. Raises Conflict when the name is taken."""
    if not work.add_missing(users, {"name": user.name, "body": user.model_dump(mode="json")}):
        raise Conflict(f"There is a user '{user.name}' already; take another name, or change that one.")


def save(work: Work, user: User) -> None:
    """Replace a user's record."""
    work.put(users, {"name": user.name, "body": user.model_dump(mode="json")})


def find(work: Work, name: str) -> User | None:
    """The user, or None: keys and tokens may be of somebody who has no record."""
    return work.body(User, select(users.c.body).where(users.c.name == name))


def get(work: Work, name: str) -> User:
    """The user. Raises NotFound with near names."""
    found = find(work, name)
    if found is None:
        close = near(name, [user.name for user in everyone(work)])
        hint = f"did you mean {' or '.join(close)}?" if close else "treadle users list shows them all."
        raise NotFound(f"There is no user '{name}'; {hint}")
    return found


def everyone(work: Work) -> list[User]:
    """All users by name."""
    return work.bodies(User, select(users.c.body).order_by(users.c.name))


def save_key(work: Work, key: ApiKey) -> None:
    """Keep a key's record."""
    body = key.model_dump(mode="json", exclude={"last_used_at"})
    work.put(api_keys, {"hash": key.hash, "user": key.user, "revoked": key.revoked, "body": body})


def find_key(work: Work, digest: str) -> ApiKey | None:
    """The key with this SHA-256, unless it is unknown, revoked or expired."""
    statement = _keys().where(api_keys.c.hash == digest, api_keys.c.revoked.is_(False))
    found = next(iter(_read(work, statement)), None)
    return None if found is None or _over(found) else found


def keys(work: Work, user: str | None = None) -> list[ApiKey]:
    """All keys' records, revoked ones too; with ``user``, theirs."""
    statement = _keys().order_by(api_keys.c.user)
    return _read(work, statement if user is None else statement.where(api_keys.c.user == user))


def revoke(work: Work, prefix: str, user: str | None = None) -> ApiKey:
    """Refuse the key with this prefix from now on; with ``user``, only if it is theirs. Raises NotFound."""
    for key in keys(work, user):
        if key.prefix == prefix and not key.revoked:
            gone = key.model_copy(update={"revoked": True})
            save_key(work, gone)
            return gone
    raise NotFound(f"There is no key with prefix '{prefix}' in use; treadle keys list shows them.")


def keys_used(work: Work, when: Mapping[str, datetime]) -> None:
    """Note when keys were last used, by hash."""
    for digest, moment in when.items():
        work.run(update(api_keys).where(api_keys.c.hash == digest).values(last_used_at=moment))


def _keys() -> Any:
    return select(api_keys.c.body, api_keys.c.last_used_at)


def _read(work: Work, statement: Any) -> list[ApiKey]:
    return [
        ApiKey.model_validate({**body, "last_used_at": with_zone(used) if used else None}) for body, used in work.run(statement)
    ]


def _over(key: ApiKey) -> bool:
    return key.expires_at is not None and key.expires_at <= now()
