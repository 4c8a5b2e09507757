"""What was done to access and settings, by whom and with what result. Entries are added and never changed."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from cluster.domain.base import Frozen, now

Result = Literal["done", "refused"]


class AuditEntry(Frozen):
    """``origin`` is the client's address as the server saw it (a proxy's, behind a proxy), or ``cli``.

    ``detail`` holds what was asked for, and never a secret.
    """

    at: datetime = Field(default_factory=now)
    user: str
    origin: str = ""
    action: str
    target: str = ""
    result: Result = "done"
    detail: dict[str, Any] = {}
