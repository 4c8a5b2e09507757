"""Signals: one piece of judgement on a turn, and what it becomes.

wrong agent                         → router example
thumb down + ideal answer           → SFT row, DPO pair and a regression question
failed validation + ideal           → DPO pair (the same one)
failed validation + repaired answer → DPO pair, unless somebody judged the repaired one to be bad
thumb up                            → SFT row (a candidate)
"""

from datetime import datetime
from typing import Any, Literal, Sequence

from pydantic import Field, model_validator

from cluster.domain.base import Frozen, digest_of, new_id, now
from cluster.domain.conversations import Turn
from cluster.domain.datasets import DpoRow, RouterRow, Row, SftRow
from cluster.domain.questions import Question

SignalKind = Literal["thumb", "right_agent", "ideal_answer", "failed_validation", "operator_note"]


class Signal(Frozen):
    """``value``: "up"/"down" for a thumb, an agent's name (None: out of scope) for right_agent, text for ideal_answer and
    operator_note, the list of broken rules for failed_validation."""

    id: str = Field(default_factory=lambda: new_id("sig"))
    turn_id: str
    kind: SignalKind
    value: Any = None
    user: str
    created_at: datetime = Field(default_factory=now)

    @model_validator(mode="after")
    def _value_fits(self) -> "Signal":
        if self.kind == "thumb" and self.value not in ("up", "down"):
            raise ValueError(f"a thumb is 'up' or 'down', not {self.value!r}")
        if self.kind in ("ideal_answer", "operator_note") and not (isinstance(self.value, str) and self.value.strip()):
            raise ValueError(f"{self.kind} needs a text as its value")
        if self.kind == "right_agent" and not (self.value is None or isinstance(self.value, str)):
            raise ValueError("right_agent needs an agent's name, or null for out of scope")
        return self


class Consequence(Frozen):
    """What one signal became: a row of a dataset (by kind and agent) or a regression question."""

    signal_id: str
    agent: str
    row: Row | None = None
    question: Question | None = None


def consequences(turn: Turn, signals: Sequence[Signal]) -> list[Consequence]:
    """Everything that the signals on one turn become, newest judgement of each kind winning."""
    latest = {signal.kind: signal for signal in sorted(signals, key=lambda signal: signal.created_at)}
    passages = tuple(citation.text for citation in turn.passages)
    source = f"turn:{turn.id}"
    made: list[Consequence] = []
    right = latest.get("right_agent")
    if right is not None and (right.value != turn.agent or turn.route.sentence == "asked_back"):
        row = RouterRow(text=turn.question, agent=right.value, source=source)
        made.append(Consequence(signal_id=right.id, agent=turn.agent, row=row))
        return made  # an answer by the wrong agent teaches that agent nothing
    if turn.route.sentence is not None:
        return made  # nobody said it
    if turn.restricted:
        return made  # what is trained into an adapter is told to everybody
    ideal, thumb = latest.get("ideal_answer"), latest.get("thumb")
    if ideal is not None:
        said = {"question": turn.question, "history": turn.history, "passages": passages, "source": source}
        made.append(Consequence(signal_id=ideal.id, agent=turn.agent, row=SftRow(**said, answer=ideal.value)))
        if ideal.value.strip() != turn.answer.strip() and turn.answer.strip():
            row_dpo = DpoRow(**said, chosen=ideal.value, rejected=turn.answer)
            made.append(Consequence(signal_id=ideal.id, agent=turn.agent, row=row_dpo))
        question = Question(
            id="reg_" + digest_of([turn.agent, turn.question])[:20],
            text=turn.question,
            kind="exact",
            expected=ideal.value,
            slices=("regression",),
            source=source,
        )
        made.append(Consequence(signal_id=ideal.id, agent=turn.agent, question=question))
    elif thumb is not None and thumb.value == "up":
        row_up = SftRow(question=turn.question, history=turn.history, passages=passages, answer=turn.answer, source=source)
        made.append(Consequence(signal_id=thumb.id, agent=turn.agent, row=row_up))
    failed, repaired = latest.get("failed_validation"), turn.correction
    if failed is None or repaired is None or ideal is not None or (thumb is not None and thumb.value == "down"):
        return made
    if repaired.kept == "second" and turn.validation.passed and repaired.first.strip() and turn.answer.strip():
        said = {"question": turn.question, "history": turn.history, "passages": passages, "source": source}
        row_repaired = DpoRow(**said, chosen=turn.answer, rejected=repaired.first)
        made.append(Consequence(signal_id=failed.id, agent=turn.agent, row=row_repaired))
    return made
