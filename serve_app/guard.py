"""Patterns that a question must not match, on RE2 (linear time whatever the text).

It stops the common and the clumsy; it is no security boundary: who words an attack anew passes it.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from cluster.domain.base import Frozen, Name
from cluster.domain.parsing import parse
from cluster.domain.validation import compiled
from cluster.errors import GuardBlocked, SettingsError
from cluster.settings import read_yaml


class Policy(Frozen):
    """``block``: the question is refused with ``message``; ``flag``: it is answered, and the answer says which policy it met."""

    name: Name
    action: Literal["block", "flag"] = "block"
    message: str = "This question was refused."
    patterns: tuple[str, ...] = Field(min_length=1)

    @field_validator("patterns")
    @classmethod
    def _compile(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            compiled(pattern)
        return value


class Guard(Frozen):
    """The policies of ``configs/guard.yaml``, in order."""

    policies: tuple[Policy, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "Guard":
        """Raises SettingsError with the file, the key and the reason."""
        return parse(cls, read_yaml(path), str(path), SettingsError)

    def check(self, text: str) -> tuple[str, ...]:
        """The names of the flagging policies that ``text`` meets. Raises GuardBlocked at the first that blocks."""
        flags = []
        for policy in self.policies:
            if any(compiled(pattern).search(text) for pattern in policy.patterns):
                if policy.action == "block":
                    raise GuardBlocked(f"{policy.message} (guard policy '{policy.name}')")
                flags.append(policy.name)
        return tuple(flags)
