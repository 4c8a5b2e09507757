"""The agent's rules on a finished answer; a broken rule becomes a signal on the turn."""

from collections.abc import Sequence

from cluster.domain.agents import Agent
from cluster.domain.conversations import Citation, Turn
from cluster.domain.response_parsing import ResponseParser
from cluster.domain.signals import Signal
from cluster.domain.validation import Judged, Validation, citations, judge
from serve_app.references import References, asked_for


def validate(card: Agent, answer: str, passages: Sequence[Citation]) -> Validation:
    """What the card's rules say of an answer that was written elsewhere."""
    return judge(card.rules, Judged(answer, len(passages), card.prompt))


class Validator:
    """What cards' rules say of answers written here."""

    def __init__(self, references: References) -> None:
        self.references = references

    async def validation(
        self, card: Agent, question: str, answer: str, passages: Sequence[Citation], parser: ResponseParser | None
    ) -> Validation:
        """Of one answer; ``parser`` knows what was stripped from it. Waits only where a rule compares with references."""
        if not card.rules:
            return Validation(passed=True)
        compares = asked_for(card.rules)
        similarity = None
        if compares is not None:
            similarity = await self.references.similarity(card.name, compares, question, answer)
        kinds = parser.stripped.kinds if parser else None
        return judge(card.rules, Judged(answer, len(passages), card.prompt, kinds, similarity))


def signals_of(turn: Turn) -> list[Signal]:
    """The failed-validation signal of a turn, or nothing. A correction does not undo that the first answer failed."""
    failures = turn.correction.failures if turn.correction else turn.validation.failures
    if not failures:
        return []
    return [Signal(turn_id=turn.id, kind="failed_validation", value=list(failures), user=turn.user)]


def cited(answer: str, passages: Sequence[Citation]) -> list[Citation]:
    """The passages that the answer points to, in the order in which it does."""
    by_number = {passage.number: passage for passage in passages}
    return [by_number[number] for number in citations(answer) if number in by_number]
