"""The organisation's own answers: what question sets expect of an agent, and what people wrote as its ideal answers."""

from typing import NamedTuple

from sqlalchemy import select

from cluster.catalog import questions
from cluster.catalog.tables import signals, turns
from cluster.catalog.transaction import Work

KINDS = ("exact", "similarity", "judge")
"""The kinds of questions whose expectation is a whole answer."""


class Reference(NamedTuple):
    """A question, and answers to it that are good."""

    question: str
    answers: tuple[str, ...]


def of_agent(work: Work, agent: str, most: int) -> list[Reference]:
    """At most ``most``: ideal answers first, the newest of each question, curated or not, then those of question sets."""
    found: dict[str, tuple[str, ...]] = {}
    ideal = (
        select(turns.c.body, signals.c.body)
        .select_from(signals.join(turns, signals.c.turn_id == turns.c.id))
        .where(turns.c.agent == agent, signals.c.kind == "ideal_answer")
        .order_by(signals.c.created_at.desc())
        .limit(most)
    )
    for turn, signal in work.run(ideal):
        found.setdefault(turn["question"], (signal["value"],))
    for one in questions.sets(work, agent):
        for question in one.questions:
            if question.kind in KINDS and question.references:
                found.setdefault(question.text, question.references)
    return [Reference(question, answers) for question, answers in list(found.items())[:most]]
