"""Tokens that somebody else signs (JWT): with a shared secret, or with keys whose public halves stand in a JWKS file or address.

The settings say which algorithms are believed, never the token: a public key cannot be passed off as a secret.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt

from cluster.domain.base import NAME
from cluster.domain.users import RANKS, Role
from cluster.errors import Unauthenticated, Unavailable
from cluster.settings import ROOT, JwtSettings

ALGORITHMS = ["RS256", "ES256"]
KEYS_SECONDS = 300.0
AGAIN_SECONDS = 10.0
MOST_BYTES = 256 * 1024
LEEWAY_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says that is believed."""

    user: str
    role: Role
    expires_at: datetime


class KeySet:
    """An issuer's public keys by id. Looked up again every five minutes, and for an id that is not known (a rotated key), but then every
    ten seconds at most: tokens with made-up ids must not become requests to the issuer. While the issuer does not answer, what is known
    stays."""

    def __init__(self, fetch: Callable[[], Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch, self._clock = fetch, clock
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._next = self._again = float("-inf")
        self._lock = threading.Lock()

    def key(self, kid: str | None) -> jwt.PyJWK | None:
        """The key with this id; without an id, the only key there is. Raises Unavailable when no keys could ever be read."""
        with self._lock:
            present = self._clock()
            if present >= self._next or (kid not in self._keys and present >= self._again):
                self._again = present + AGAIN_SECONDS
                try:
                    self._keys = _usable(self._fetch())
                    self._next = present + KEYS_SECONDS
                except Unavailable:
                    if not self._keys:
                        raise
            if kid is None and len(self._keys) == 1:
                return next(iter(self._keys.values()))
            return self._keys.get(kid)


class BearerTokens:
    """Reads tokens as the settings say."""

    def __init__(self, settings: JwtSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._secret = settings.secret.get_secret_value()
        self._keys = None if self._secret else KeySet(lambda: _fetched(settings), clock)

    def read(self, text: str) -> Claims:
        """The claims of a token. Raises Unauthenticated with what is wrong with it."""
        settings = self._settings
        needed = ["exp", settings.user_claim, *(["iss"] if settings.issuer else []), *(["aud"] if settings.audience else [])]
        try:
            key, algorithms = self._key(text)
            claims = jwt.decode(
                text,
                key,
                algorithms=algorithms,
                issuer=settings.issuer or None,
                audience=settings.audience or None,
                leeway=LEEWAY_SECONDS,
                options={"require": needed, "verify_aud": bool(settings.audience)},
            )
            expires_at = datetime.fromtimestamp(int(claims["exp"]), UTC)
        except (jwt.PyJWTError, OverflowError, ValueError, OSError) as error:
            raise Unauthenticated(f"The token cannot be used: {_reason(error)}; ask its issuer for a new one.") from None
        return Claims(_user(claims[settings.user_claim]), _role(claims.get(settings.role_claim)), expires_at)

    def _key(self, text: str) -> tuple[Any, list[str]]:
        if self._keys is None:
            return self._secret, ["HS256"]
        kid = jwt.get_unverified_header(text).get("kid")
        found = self._keys.key(kid if isinstance(kid, str) else None)
        if found is None:
            raise jwt.InvalidKeyError(f"no key of the issuer has the id {kid!r}")
        return found.key, [found.algorithm_name]


def _user(claim: Any) -> str:
    """The claim where it is a name; else a name made of its hash, so that two of them are never the same user."""
    text = str(claim)
    return text if NAME.fullmatch(text) else f"id-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _role(claim: Any) -> Role:
    said = claim if isinstance(claim, list) else [claim]
    return next((role for role in reversed(RANKS) if role in said), "user")


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:200].rstrip(".")
    return text[:1].lower() + text[1:] if text else type(error).__name__


def _usable(document: Any) -> dict[str | None, jwt.PyJWK]:
    """The keys that sign with an algorithm we believe; others (secrets, keys to encrypt with) are left out."""
    found: dict[str | None, jwt.PyJWK] = {}
    listed = document.get("keys") if isinstance(document, dict) else None
    for one in listed if isinstance(listed, list) else []:
        try:
            key = jwt.PyJWK.from_dict(one)
        except (jwt.PyJWTError, TypeError, ValueError, AttributeError):
            continue
        if key.algorithm_name in ALGORITHMS and key.public_key_use in (None, "sig"):
            found[key.key_id] = key
    if not found:
        raise Unavailable("The issuer's key set holds no RS256 or ES256 key; check router.jwt.jwks.")
    return found


def _fetched(settings: JwtSettings) -> Any:
    if settings.jwks and "://" not in settings.jwks:
        file = ROOT / settings.jwks
        return _parsed(_bytes_of(file), str(file))
    address = settings.jwks
    if settings.discover:
        place = f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        document = _parsed(_got(place), place)
        address = str(document.get("jwks_uri", "")) if isinstance(document, dict) else ""
        if urlsplit(address)[:2] != urlsplit(settings.issuer)[:2]:
            raise Unavailable(f"{place} names keys elsewhere ({address[:200]}); set router.jwt.jwks if they are right.")
    return _parsed(_got(address), address)


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Unavailable(f"The key set {file} cannot be read: {error.strerror}; check router.jwt.jwks.") from None


def _got(address: str) -> bytes:
    """What an address of the settings answers; redirects are not followed."""
    try:
        with httpx.stream("GET", address, timeout=5.0, follow_redirects=False) as response:
            if response.status_code != 200:
                raise Unavailable(f"{address} answered {response.status_code}; check router.jwt.")
            data = b""
            for piece in response.iter_bytes():
                data += piece
                if len(data) > MOST_BYTES:
                    raise Unavailable(f"{address} answered more than {MOST_BYTES} bytes, which is no key set; check router.jwt.")
            return data
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"{address} cannot be reached ({type(error).__name__}); check router.jwt.") from None


def _parsed(data: bytes, place: str) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise Unavailable(f"{place} answered no JSON; check router.jwt.") from None
