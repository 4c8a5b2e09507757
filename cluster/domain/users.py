"""Users, roles and API keys. A key's text is shown once; only its SHA-256 is kept."""

import hashlib
import secrets
from datetime import datetime
from typing import Literal

from pydantic import Field

from cluster.domain.base import Frozen, Name, now

Role = Literal["user", "curator", "admin"]
KEY_PREFIX = "tdl_"


class ApiKey(Frozen):
    """``hash`` is the SHA-256 of the key; ``prefix`` its first characters, for people to tell keys apart."""

    hash: str
    prefix: str
    user: Name
    role: Role = "user"
    created_at: datetime = Field(default_factory=now)
    revoked: bool = False


def key_hash(text: str) -> str:
    """SHA-256 (hex). Keys are 256 random bits, so a slow hash would add nothing."""
    return hashlib.sha256(text.encode()).hexdigest()


def new_key(user: str, role: Role) -> tuple[str, ApiKey]:
    """A fresh key: its text, and the record to keep."""
    text = KEY_PREFIX + secrets.token_urlsafe(32)
    return text, ApiKey(hash=key_hash(text), prefix=text[:10], user=user, role=role)
