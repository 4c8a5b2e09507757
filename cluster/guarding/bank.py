"""The bank of patterns: how attacks are worded, by kind. RE2, so that a search takes linear time whatever the text is."""

from functools import cached_property
from typing import Any, Iterable, Literal, Sequence

import re2
from pydantic import Field, field_validator

from cluster.domain.base import Frozen, Name
from cluster.domain.patterns import compiled

Severity = Literal["low", "medium", "high"]
Place = Literal["input", "passages", "output"]
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high")


class Pattern(Frozen):
    """One wording, in RE2, and how sure a sign of an attack it is."""

    severity: Severity
    match: str = Field(min_length=1)

    @field_validator("match")
    @classmethod
    def _compile(cls, value: str) -> str:
        compiled(value)
        return value


class AttackKind(Frozen):
    """What an attack wants, in a sentence for who is refused, and its wordings by their names. ``places``: where they are looked for."""

    message: str
    places: tuple[Place, ...] = ("input", "passages")
    patterns: dict[Name, Pattern] = Field(min_length=1)


class Hit(Frozen):
    """A pattern that was found."""

    kind: str
    pattern: str
    severity: Severity


class Bank(Frozen):
    """All kinds of attacks. Pattern names are unique over the bank."""

    kinds: dict[Name, AttackKind] = Field(default_factory=dict)

    @field_validator("kinds")
    @classmethod
    def _names_are_unique(cls, value: dict[str, AttackKind]) -> dict[str, AttackKind]:
        seen: set[str] = set()
        for kind in value.values():
            for name in kind.patterns:
                if name in seen:
                    raise ValueError(f"two patterns are named '{name}'; rename one of them")
                seen.add(name)
        return value

    @property
    def size(self) -> int:
        """How many patterns there are."""
        return sum(len(kind.patterns) for kind in self.kinds.values())

    def searches(self) -> list[tuple[str, Any]]:
        """Every pattern's name with its compiled form, for measuring; ``search`` takes bytes."""
        return [(name, _quick(pattern.match)) for kind in self.kinds.values() for name, pattern in kind.patterns.items()]

    def hits(self, readings: Iterable[str], place: Place) -> tuple[Hit, ...]:
        """The patterns that meet any of the readings (folded texts), each once."""
        left = list(self._of_place[place])
        found: list[Hit] = []
        for reading in readings:
            raw = reading.encode("utf-8", "replace")
            met = [(hit, pattern) for hit, pattern in left if pattern.search(raw)]
            found += [hit for hit, _ in met]
            left = [one for one in left if one not in met] if met else left
        return tuple(found)

    @cached_property
    def _of_place(self) -> dict[Place, Sequence[tuple[Hit, Any]]]:
        table: dict[Place, list[tuple[Hit, Any]]] = {"input": [], "passages": [], "output": []}
        for name, kind in self.kinds.items():
            for called, pattern in kind.patterns.items():
                for place in kind.places:
                    hit = Hit(kind=name, pattern=called, severity=pattern.severity)
                    table[place].append((hit, _quick(pattern.match)))
        return table  # type: ignore[return-value]


def _quick(pattern: str) -> Any:
    """Compiled for folded text in UTF-8. Gaps make many states: with room for them the search keeps to the quick automaton."""
    options = re2.Options()
    options.never_capture = True
    options.max_mem = 32 << 20
    return re2.compile(pattern.encode(), options)
