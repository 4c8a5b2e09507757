"""Users, roles, scopes, API keys and sessions. A secret's text is shown once; only its hash is kept."""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Iterable, Literal, Protocol

from pydantic import Field

from cluster.domain.base import Frozen, Name, now

Role = Literal["user", "curator", "admin"]
Scope = Literal["chat", "signals", "read", "keys", "admin"]
"""``chat`` asks questions, ``signals`` judges answers, ``read`` reads, ``keys`` makes and revokes one's own keys, ``admin`` the rest."""

KEY_PREFIX = "tdl_"
SESSION_HOURS = 12

_OF_EVERYBODY: frozenset[Scope] = frozenset({"chat", "signals", "read", "keys"})
SCOPES: dict[Role, frozenset[Scope]] = {
    "user": _OF_EVERYBODY,
    "curator": _OF_EVERYBODY,
    "admin": _OF_EVERYBODY | {"admin"},
}
"""What each role may do at most."""
RANKS: tuple[Role, ...] = ("user", "curator", "admin")
"""Roles, the weakest first."""


class Person(Protocol):
    """Somebody who asks, as far as access goes: an identity of the gateway, or a question of theirs."""

    @property
    def user(self) -> str: ...

    @property
    def role(self) -> Role: ...


class Access(Frozen):
    """Who may use an agent or read a document: these users, and everybody of these roles. Both empty: everybody. Admins always may."""

    users: tuple[Name, ...] = Field(default=(), max_length=1000)
    roles: tuple[Role, ...] = Field(default=(), max_length=3)

    def allows(self, person: Person) -> bool:
        if person.role == "admin" or not (self.users or self.roles):
            return True
        return person.user in self.users or person.role in self.roles


class User(Frozen):
    """A person who may log in. ``password`` is an Argon2id hash in PHC form; without one there is no login, only keys and tokens."""

    name: Name
    role: Role = "user"
    password: str | None = Field(default=None, repr=False)
    disabled: bool = False
    created_at: datetime = Field(default_factory=now)


class ApiKey(Frozen):
    """``hash`` is the SHA-256 of the key; ``prefix`` its first characters, for people to tell keys apart.

    ``scopes`` None: all that the role has. ``last_used_at`` is exact to a minute.
    """

    hash: str
    prefix: str
    user: Name
    role: Role = "user"
    scopes: tuple[Scope, ...] | None = None
    created_at: datetime = Field(default_factory=now)
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked: bool = False


class Session(Frozen):
    """A login. ``hash`` is the SHA-256 of what the browser's cookie holds."""

    hash: str
    user: Name
    created_at: datetime = Field(default_factory=now)
    expires_at: datetime
    last_used_at: datetime | None = None


def key_hash(text: str) -> str:
    """SHA-256 (hex). Keys are 256 random bits, so a slow hash would add nothing."""
    return hashlib.sha256(text.encode()).hexdigest()


def new_key(
    user: str, role: Role, scopes: Iterable[Scope] | None = None, expires_at: datetime | None = None
) -> tuple[str, ApiKey]:
    """A fresh key: its text, and the record to keep."""
    text = KEY_PREFIX + secrets.token_urlsafe(32)
    held = None if scopes is None else tuple(sorted(set(scopes)))
    return text, ApiKey(hash=key_hash(text), prefix=text[:10], user=user, role=role, scopes=held, expires_at=expires_at)


def new_session(user: str) -> tuple[str, Session]:
    """A fresh login: the cookie's text, and the record to keep."""
    text = secrets.token_urlsafe(32)
    return text, Session(hash=key_hash(text), user=user, expires_at=now() + timedelta(hours=SESSION_HOURS))


def weaker(one: Role, other: Role) -> Role:
    """The one of two roles that may do less."""
    return min(one, other, key=RANKS.index)


def scopes_of(role: Role, asked: Iterable[Scope] | None = None) -> frozenset[Scope]:
    """What a credential may do: the scopes that were asked for, and never more than the role has."""
    return SCOPES[role] if asked is None else SCOPES[role] & frozenset(asked)
