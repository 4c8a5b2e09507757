"""Declarative rules that an answer must keep, and the check itself.

Knows nothing of language: "must have a timeline" is a list of patterns somebody wrote. Patterns run on RE2 (linear time), since
they come from people and meet untrusted text.
"""

import json
from typing import Annotated, Any, Literal, NamedTuple, Sequence

from pydantic import Field, field_validator, model_validator

from cluster.domain.base import Frozen
from cluster.domain.patterns import compiled
from cluster.domain.repeats import holds_canary, shingles, words
from cluster.domain.response_parsing import parsed
from cluster.domain.schemas import against_schema, check_schema

Patterns = tuple[str, ...]
SHORTEST_LEAK = 4
"""Words; a shorter prompt may stand in an honest answer."""
_TELLS = r"\bmy (system )?(prompt|instructions) (is|are|says?|reads?)\b|\bsystem prompt\s*:"


class _Rule(Frozen):
    """``reason`` is what a broken rule says, in a sentence: people read it, and an agent that is asked to correct itself."""

    reason: str = Field(default="", max_length=400, exclude_if=lambda text: not text)  # cards without it keep their digests


class LengthRule(_Rule):
    """Between ``min_chars`` and ``max_chars`` characters."""

    kind: Literal["length"] = "length"
    name: str = "length"
    min_chars: int = 1
    max_chars: int = 4000


class PatternRule(_Rule):
    """``must_match``: at least one pattern is found; ``must_not_match``: none is."""

    kind: Literal["must_match", "must_not_match"]
    name: str
    patterns: Patterns = Field(min_length=1)

    @field_validator("patterns")
    @classmethod
    def _compile(cls, value: Patterns) -> Patterns:
        return _checked(value)


class PartsRule(_Rule):
    """The answer has every part: of each, at least one pattern is found."""

    kind: Literal["must_have"] = "must_have"
    name: str = "must_have"
    parts: dict[str, Annotated[Patterns, Field(min_length=1)]] = Field(min_length=1)

    @field_validator("parts")
    @classmethod
    def _compile(cls, value: dict[str, Patterns]) -> dict[str, Patterns]:
        return {part: _checked(patterns) for part, patterns in value.items()}


class ToneRule(_Rule):
    """None of the ``forbidden`` patterns is found, and at least one of the ``required`` ones, where there are any."""

    kind: Literal["tone"] = "tone"
    name: str = "tone"
    required: Patterns = ()
    forbidden: Patterns = ()

    @model_validator(mode="after")
    def _says_something(self) -> "ToneRule":
        if not (self.required or self.forbidden):
            raise ValueError("give 'required' patterns, 'forbidden' ones, or both")
        _checked((*self.required, *self.forbidden))
        return self


class CitesRule(_Rule):
    """When passages were given, the answer cites at least one of them, and none that was not given."""

    kind: Literal["cites_passage"] = "cites_passage"
    name: str = "cites_passage"


class JsonRule(_Rule):
    """The whole answer is a JSON object with at least these keys."""

    kind: Literal["json"] = "json"
    name: str = "json"
    keys: tuple[str, ...] = ()


class SchemaRule(_Rule):
    """The answer is JSON (alone or in one code fence) that fits ``expected``, a JSON schema: a mapping, or its JSON text."""

    kind: Literal["json_schema"] = "json_schema"
    name: str = "json_schema"
    expected: str

    @field_validator("expected", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return json.dumps(value, sort_keys=True, ensure_ascii=False) if isinstance(value, dict) else value

    @field_validator("expected")
    @classmethod
    def _can_be_used(cls, value: str) -> str:
        check_schema(value)
        return value


class NoPromptLeakRule(_Rule):
    """The answer repeats no ``words`` words in a row of the agent's prompt, does not hold its canary and does not talk of it."""

    kind: Literal["no_prompt_leak"] = "no_prompt_leak"
    name: str = "no_prompt_leak"
    words: int = Field(default=8, ge=SHORTEST_LEAK)


class NoDialogueRule(_Rule):
    """What the model wrote went on neither as the user nor with another turn. What is shown is without it, whether the rule stands or
    not: the rule makes it a failure to learn from."""

    kind: Literal["no_dialogue"] = "no_dialogue"
    name: str = "no_dialogue"


class SimilarityRule(_Rule):
    """The answer is compared with the organisation's own to the most similar question, where that one's cosine is at least ``asked``.
    Below ``least`` the rule is broken; 0 measures only."""

    kind: Literal["similarity"] = "similarity"
    name: str = "similarity"
    least: float = Field(default=0.0, ge=0.0, le=1.0)
    asked: float = Field(default=0.6, gt=0.0, le=1.0)


Rule = Annotated[
    LengthRule
    | PatternRule
    | PartsRule
    | ToneRule
    | CitesRule
    | JsonRule
    | SchemaRule
    | NoPromptLeakRule
    | NoDialogueRule
    | SimilarityRule,
    Field(discriminator="kind"),
]


class Validation(Frozen):
    """What the rules said of one answer: ``failures`` holds the names of the broken rules, ``reasons`` a sentence on each. ``similarity``
    is the cosine to the organisation's own answer, where it was measured."""

    passed: bool
    failures: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    similarity: float | None = Field(default=None, exclude_if=lambda value: value is None)


class Judged(NamedTuple):
    """An answer and what rules may ask about it: how many numbered ``passages`` its prompt held, the agent's ``prompt``, the kinds of
    what was ``stripped`` from it (None: nobody looked), its ``similarity`` (None: nothing to compare with)."""

    answer: str
    passages: int = 0
    prompt: str = ""
    stripped: tuple[str, ...] | None = None
    similarity: float | None = None


def citations(answer: str) -> tuple[int, ...]:
    """Passage numbers cited as ``[n]``, in order of first appearance."""
    found = compiled(r"\[(\d{1,3})\]").findall(answer)
    return tuple(dict.fromkeys(int(number) for number in found))


def check(rules: Sequence[Rule], answer: str, passages: int = 0) -> Validation:
    """Apply every rule to ``answer``; ``passages`` is how many numbered passages the prompt held."""
    return judge(rules, Judged(answer, passages))


def judge(rules: Sequence[Rule], said: Judged) -> Validation:
    """Apply every rule."""
    broken = [(rule, why) for rule in rules if (why := _broken(rule, said))]
    return Validation(
        passed=not broken,
        failures=tuple(rule.name for rule, _ in broken),
        reasons=tuple(rule.reason or why for rule, why in broken),
        similarity=said.similarity,
    )


def _checked(patterns: Patterns) -> Patterns:
    for pattern in patterns:
        compiled(pattern)
    return patterns


def _found(patterns: Patterns, answer: str) -> str:
    """What the first pattern that is found has found, or ""."""
    match = next((match for pattern in patterns if (match := compiled(pattern).search(answer))), None)
    return "" if match is None else " ".join(match.group().split())[:80] or "an empty text"


def _broken(rule: Rule, said: Judged) -> str:
    """A sentence on why the rule is broken, or ""."""
    match rule:
        case LengthRule():
            return _length(rule, len(said.answer))
        case PatternRule(kind="must_match"):
            return "" if _found(rule.patterns, said.answer) else f"The answer lacks what the rule '{rule.name}' asks for."
        case PatternRule():
            found = _found(rule.patterns, said.answer)
            return found and f"The answer says '{found}', which the rule '{rule.name}' forbids."
        case PartsRule():
            missing = [part for part, patterns in rule.parts.items() if not _found(patterns, said.answer)]
            return f"The answer lacks {' and '.join(missing)}." if missing else ""
        case ToneRule():
            found = _found(rule.forbidden, said.answer)
            if found:
                return f"The answer's tone is wrong: it says '{found}'."
            lacks = rule.required and not _found(rule.required, said.answer)
            return "The answer's tone is wrong: it lacks every wording that is asked for." if lacks else ""
        case CitesRule():
            return _cites(citations(said.answer), said.passages)
        case JsonRule():
            return _json(rule, said.answer)
        case SchemaRule():
            why = against_schema(rule.expected, said.answer)
            return why and f"The answer does not fit its JSON schema: {why}."
        case NoPromptLeakRule():
            leaks = _leaks(said.answer, said.prompt, rule.words)
            return "The answer gives away what the agent was told in confidence." if leaks else ""
        case NoDialogueRule():
            kinds = parsed(said.answer)[1].kinds if said.stripped is None else said.stripped
            return "The answer goes on as the user, or with a turn that nobody asked for." if "dialogue" in kinds else ""
        case SimilarityRule():
            return _unlike(rule, said.similarity)


def _length(rule: LengthRule, length: int) -> str:
    if length < rule.min_chars:
        return f"The answer has {length:,} characters and needs {rule.min_chars:,}."
    return f"The answer has {length:,} characters; {rule.max_chars:,} are allowed." if length > rule.max_chars else ""


def _cites(cited: Sequence[int], passages: int) -> str:
    strange = [number for number in cited if not 1 <= number <= passages]
    if not passages or (cited and not strange):
        return ""
    return f"The answer cites [{strange[0]}], which it was not given." if strange else "The answer cites none of its passages."


def _json(rule: JsonRule, answer: str) -> str:
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return "The answer is not JSON."
    if not isinstance(value, dict):
        return "The answer is JSON, but no object."
    missing = [key for key in rule.keys if key not in value]
    return f"The answer's JSON lacks the key '{missing[0]}'." if missing else ""


def _leaks(answer: str, prompt: str, size: int) -> bool:
    size = min(size, len(words(prompt)))
    repeated = size >= SHORTEST_LEAK and bool(shingles(prompt, size) & shingles(answer, size))
    return repeated or holds_canary(answer, prompt) or bool(compiled(_TELLS).search(answer))


def _unlike(rule: SimilarityRule, similarity: float | None) -> str:
    # The reference itself is not told: an agent that corrects itself would be shown the answer that it is judged by.
    if similarity is None or similarity >= rule.least:
        return ""
    return f"The answer is unlike the organisation's own: similarity {similarity:.2f}, and at least {rule.least:g} is asked for."
