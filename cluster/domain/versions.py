"""Semantic versions of releases, and the rules by which they are earned."""

import re
from typing import Literal, NamedTuple

Bump = Literal["major", "minor", "patch"]
_FORM = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


class Version(NamedTuple):
    """``major.minor.patch``; ordered as semantic versioning orders them."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Raises ValueError naming the text when it is not ``major.minor.patch``."""
        found = _FORM.fullmatch(text)
        if not found:
            raise ValueError(f"'{text}' is not a version: write major.minor.patch, for example 1.4.0")
        return cls(*(int(part) for part in found.groups()))

    def bump(self, part: Bump) -> "Version":
        """The next version after a change of the given weight."""
        match part:
            case "major":
                return Version(self.major + 1, 0, 0)
            case "minor":
                return Version(self.major, self.minor + 1, 0)
            case "patch":
                return Version(self.major, self.minor, self.patch + 1)


FIRST = Version(0, 1, 0)


def split_ref(ref: str) -> tuple[str, str | None]:
    """``agent@version`` → (agent, version); ``agent`` → (agent, None)."""
    agent, mark, version = ref.partition("@")
    return agent, version if mark else None
