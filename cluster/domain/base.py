"""What all domain types have in common: frozen, and closed to unknown keys."""

import hashlib
import json
import re
import secrets
from datetime import UTC, datetime
from typing import Annotated, Any, Mapping

from pydantic import AfterValidator, BaseModel, ConfigDict

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


class Frozen(BaseModel):
    """A value: equal by content, never changed in place."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def _check_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(
            f"'{value}' is not a name: use 1 to 64 lower-case letters, digits, '.', '_' or '-', starting and ending with a "
            "letter or digit"
        )
    return value


Name = Annotated[str, AfterValidator(_check_name)]
"""A name that is safe in URLs, file names and MLflow."""


def now() -> datetime:
    """The present moment, in UTC with its zone."""
    return datetime.now(UTC)


def with_zone(moment: datetime) -> datetime:
    """The same moment with its zone: SQLite gives times back without one, and all of ours are UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def new_id(prefix: str) -> str:
    """A fresh identifier such as ``turn_5f0c…``: 80 random bits, sortable by nothing."""
    return f"{prefix}_{secrets.token_hex(10)}"


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of a JSON value in canonical form: keys sorted, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping with dotted keys: ``{"lora": {"rank": 8}}`` → ``{"lora.rank": 8}``."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found.update(flat(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) else {f"{prefix}{key}": inner})
    return found
