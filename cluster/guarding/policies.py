"""The policies: for each place, what is blocked, flagged and logged, and what happens when the check itself breaks."""

from typing import Literal

from pydantic import Field, model_validator

from cluster.domain.base import Frozen, Name
from cluster.guarding.bank import SEVERITIES, AttackKind, Bank, Hit, Place, Severity

Action = Literal["pass", "log", "flag", "block"]
ACTIONS: tuple[Action, ...] = ("pass", "log", "flag", "block")
CLASSIFIER = "classifier"
"""The kind, and the pattern's name, of what the trained classifier alone found."""
BROKEN = "guard-broken"


class Rates(Frozen):
    """The shares of ordinary texts that the classifier may wrongly block and flag; None: never."""

    block: float | None = Field(default=None, gt=0, lt=1)
    flag: float | None = Field(default=None, gt=0, lt=1)


class PlacePolicy(Frozen):
    """The least severity that is blocked, flagged and logged; None: none is. Of passages, blocked means left out."""

    block: Severity | None = None
    flag: Severity | None = None
    log: Severity | None = None
    classifier: Rates = Rates()
    fail: Literal["open", "closed"] = "open"

    def action(self, severity: Severity) -> Action:
        """What is done about a hit."""
        for action, least in (("block", self.block), ("flag", self.flag), ("log", self.log)):
            if least is not None and SEVERITIES.index(severity) >= SEVERITIES.index(least):
                return action  # type: ignore[return-value]
        return "pass"


class Anomaly(Frozen):
    """When a user is held to a stricter policy: after ``events`` blocked or flagged requests within the window, until it has passed."""

    events: int = Field(ge=1)
    window_seconds: float = Field(gt=0)
    then: Name


class Policy(Frozen):
    """One row of the table."""

    input: PlacePolicy = PlacePolicy()
    passages: PlacePolicy = PlacePolicy()
    output: PlacePolicy = PlacePolicy()
    anomaly: Anomaly | None = None

    def of(self, place: Place) -> PlacePolicy:
        """The part for a place."""
        return {"input": self.input, "passages": self.passages, "output": self.output}[place]


class GuardTable(Frozen):
    """``configs/guard.yaml``: the policies and the bank."""

    policies: dict[Name, Policy] = Field(min_length=1)
    kinds: dict[Name, AttackKind] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_known(self) -> "GuardTable":
        for name, policy in self.policies.items():
            if policy.anomaly is not None and policy.anomaly.then not in self.policies:
                raise ValueError(
                    f"policy '{name}' goes on to '{policy.anomaly.then}', which is none of {', '.join(self.policies)}"
                )
        Bank(kinds=self.kinds)
        return self


class Verdict(Frozen):
    """What was found in a text and what is done about it. ``score`` is the classifier's, where one is released."""

    place: Place
    policy: str
    action: Action = "pass"
    hits: tuple[Hit, ...] = ()
    score: float | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of attack that were found, each once."""
        return tuple(dict.fromkeys(hit.kind for hit in self.hits))


def worst(actions: list[Action]) -> Action:
    """The strictest of some actions."""
    return max(actions, key=ACTIONS.index, default="pass")
