"""Whose request it is: an API key, a bearer token or a session's cookie, looked up once a second at most.

What was found is trusted for ``KEY_SECONDS``: revoking, disabling and expiring take effect within it, and the hot path is a dict lookup.
Only what exists is remembered, so that a new key works at once.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cluster.catalog import Catalog, Work, sessions, users
from cluster.domain.base import now
from cluster.domain.users import KEY_PREFIX, Role, Scope, key_hash, scopes_of, weaker
from cluster.errors import Forbidden, Unauthenticated, Unavailable
from serve_app.bearer_tokens import BearerTokens

KEY_SECONDS = 1.0
AWAY_SECONDS = 15.0
"""How much longer, while the catalog cannot be read: a database that restarts is no reason to refuse everybody."""
NOTED_SECONDS = 60.0
MOST_REMEMBERED = 10_000
COOKIE = "treadle_session"
CSRF_HEADER = "x-treadle"
"""A page of another site cannot send a header of ours without asking first, and is not answered when it asks."""

How = Literal["key", "token", "session"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, and what the credential allows. ``credential``: SHA-256 of the key, token or cookie."""

    user: str
    role: Role
    scopes: frozenset[Scope]
    how: How
    credential: str
    expires_at: datetime | None = None


class Identities:
    """Everybody who may ask. ``tokens`` None: bearer tokens of others are not believed."""

    def __init__(self, catalog: Catalog, tokens: BearerTokens | None) -> None:
        self._catalog, self._tokens = catalog, tokens
        self._found: dict[str, tuple[float, Identity]] = {}
        self._noted: dict[str, float] = {}
        self._used: dict[How, dict[str, datetime]] = {"key": {}, "session": {}}

    async def of(self, headers: Mapping[str, str], cookies: Mapping[str, str], writes: bool) -> Identity:
        """Whose request this is. Raises Unauthenticated, and Forbidden for a write with a cookie but without ``X-Treadle``."""
        header = headers.get("authorization")
        if header is None and COOKIE in cookies:
            found = await self._remembered(cookies[COOKIE], self._session)
            if writes and CSRF_HEADER not in headers:
                raise Forbidden(
                    "A write with a session's cookie needs the header 'X-Treadle: 1', so that no other site can send it."
                )
            return found
        scheme, _, text = (header or "").partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise Unauthenticated("No API key was sent; send 'Authorization: Bearer KEY' (treadle keys create makes one).")
        if self._tokens is not None and text.count(".") == 2 and not text.startswith(KEY_PREFIX):
            return await self._remembered(text, self._token)
        return await self._remembered(text, self._key)

    async def _remembered(self, text: str, look: Callable[[str, str], Identity]) -> Identity:
        digest = key_hash(text)
        until, found = self._found.get(digest, (0.0, None))
        present = time.monotonic()
        if found is not None and present < until:
            return found
        try:
            found = await asyncio.to_thread(look, text, digest)
        except Unauthenticated:
            self._found.pop(digest, None)
            raise
        except Unavailable:
            if found is None or present > until + AWAY_SECONDS or (found.expires_at is not None and found.expires_at <= now()):
                raise
            return found
        if len(self._found) >= MOST_REMEMBERED:
            self._found = {one: kept for one, kept in self._found.items() if kept[0] > present}
        left = KEY_SECONDS if found.expires_at is None else (found.expires_at - now()).total_seconds()
        self._found[digest] = (time.monotonic() + min(KEY_SECONDS, left), found)
        self._note(found)
        return found

    def forget(self, digest: str) -> None:
        """Look again at the next request: what a logout in this process needs."""
        self._found.pop(digest, None)

    def _note(self, found: Identity) -> None:
        if found.how == "token" or time.monotonic() < self._noted.get(found.credential, 0.0):
            return
        self._noted[found.credential] = time.monotonic() + NOTED_SECONDS
        self._used[found.how][found.credential] = now()

    def take_used(self) -> dict[How, dict[str, datetime]]:
        """When keys and sessions were used, once for each minute; to be written down by whoever takes it."""
        taken, self._used = self._used, {"key": {}, "session": {}}
        return taken if any(taken.values()) else {}

    def _key(self, _: str, digest: str) -> Identity:
        with self._catalog.reading() as work:
            key = users.find_key(work, digest)
            if key is not None:
                role = _role(work, key.user, key.role)
                if role is not None:
                    return Identity(key.user, role, scopes_of(role, key.scopes), "key", digest, key.expires_at)
        raise Unauthenticated("The API key is not known, expired or was revoked; treadle keys create makes one.")

    def _session(self, _: str, digest: str) -> Identity:
        with self._catalog.reading() as work:
            session = sessions.find(work, digest)
            if session is not None:
                user = users.find(work, session.user)
                if user is not None and not user.disabled:
                    return Identity(user.name, user.role, scopes_of(user.role), "session", digest, session.expires_at)
        raise Unauthenticated("The session is over; log in again (POST /v1/auth/login).")

    def _token(self, text: str, digest: str) -> Identity:
        assert self._tokens is not None
        claims = self._tokens.read(text)
        with self._catalog.reading() as work:
            role = _role(work, claims.user, claims.role)
        if role is None:
            raise Unauthenticated(f"User '{claims.user}' is disabled; an admin can change that.")
        return Identity(claims.user, role, scopes_of(role), "token", digest, claims.expires_at)


def _role(work: Work, name: str, given: Role) -> Role | None:
    """The role of a credential, never more than its user has now; None when the user is disabled."""
    user = users.find(work, name)
    if user is None:
        return given
    return None if user.disabled else weaker(given, user.role)
