"""The agent's rules on a finished answer; a broken rule becomes a signal on the turn."""

from collections.abc import Sequence

from cluster.domain.agents import Agent
from cluster.domain.conversations import Citation, Turn
from cluster.domain.signals import Signal
from cluster.domain.validation import Validation, check, citations


def validate(card: Agent, answer: str, passages: Sequence[Citation]) -> Validation:
    """What the card's rules say of the answer."""
    return check(card.rules, answer, len(passages))


def signals_of(turn: Turn) -> list[Signal]:
    """The failed-validation signal of a turn, or nothing."""
    if turn.validation.passed:
        return []
    return [Signal(turn_id=turn.id, kind="failed_validation", value=list(turn.validation.failures), user=turn.user)]


def cited(answer: str, passages: Sequence[Citation]) -> list[Citation]:
    """The passages that the answer points to, in the order in which it does."""
    by_number = {passage.number: passage for passage in passages}
    return [by_number[number] for number in citations(answer) if number in by_number]
