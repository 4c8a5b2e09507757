"""Declarative rules that an answer must keep, and the check itself.

Knows nothing of language: "must have a timeline" is a list of patterns somebody wrote. Patterns run on RE2 (linear time), since
they come from people and meet untrusted text.
"""

import json
from functools import lru_cache
from typing import Annotated, Any, Literal, Sequence

import re2
from pydantic import Field, field_validator

from cluster.domain.base import Frozen


@lru_cache(maxsize=2048)
def compiled(pattern: str) -> Any:
    """The compiled RE2 pattern, case-insensitive. Raises ValueError naming a pattern that RE2 refuses."""
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "unknown"
        reason = reason.decode() if isinstance(reason, bytes) else reason
        raise ValueError(f"pattern '{pattern}' is not valid RE2: {reason}") from None


class LengthRule(Frozen):
    """Between ``min_chars`` and ``max_chars`` characters."""

    kind: Literal["length"] = "length"
    name: str = "length"
    min_chars: int = 1
    max_chars: int = 4000


class PatternRule(Frozen):
    """``must_match``: at least one pattern is found; ``must_not_match``: none is."""

    kind: Literal["must_match", "must_not_match"]
    name: str
    patterns: tuple[str, ...] = Field(min_length=1)

    @field_validator("patterns")
    @classmethod
    def _compile(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            compiled(pattern)
        return value


class CitesRule(Frozen):
    """When passages were given, the answer cites at least one of them, and none that was not given."""

    kind: Literal["cites_passage"] = "cites_passage"
    name: str = "cites_passage"


class JsonRule(Frozen):
    """The whole answer is a JSON object with at least these keys."""

    kind: Literal["json"] = "json"
    name: str = "json"
    keys: tuple[str, ...] = ()


Rule = Annotated[LengthRule | PatternRule | CitesRule | JsonRule, Field(discriminator="kind")]


class Validation(Frozen):
    """What the rules said of one answer; ``failures`` holds the names of the broken rules."""

    passed: bool
    failures: tuple[str, ...] = ()


def citations(answer: str) -> tuple[int, ...]:
    """Passage numbers cited as ``[n]``, in order of first appearance."""
    found = compiled(r"\[(\d{1,3})\]").findall(answer)
    return tuple(dict.fromkeys(int(number) for number in found))


def _keeps(rule: Rule, answer: str, passages: int) -> bool:
    match rule:
        case LengthRule():
            return rule.min_chars <= len(answer) <= rule.max_chars
        case PatternRule():
            found = any(compiled(pattern).search(answer) for pattern in rule.patterns)
            return found == (rule.kind == "must_match")
        case CitesRule():
            cited = citations(answer)
            return passages == 0 or (bool(cited) and all(1 <= number <= passages for number in cited))
        case JsonRule():
            try:
                value = json.loads(answer)
            except ValueError:
                return False
            return isinstance(value, dict) and all(key in value for key in rule.keys)


def check(rules: Sequence[Rule], answer: str, passages: int = 0) -> Validation:
    """Apply every rule to ``answer``; ``passages`` is how many numbered passages the prompt held."""
    failures = tuple(rule.name for rule in rules if not _keeps(rule, answer, passages))
    return Validation(passed=not failures, failures=failures)
