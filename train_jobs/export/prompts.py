"""Which prompts an export is compared on: the agent's own questions, else what it was trained on, else a few that suit nobody badly."""

from typing import TypeVar

from cluster.catalog import datasets, questions
from cluster.domain.conversations import Message
from cluster.domain.prompts import render
from cluster.domain.releases import Release
from cluster.errors import TreadleError
from cluster.job_run import JobRun

BUILT_IN = (
    "What can you do for me?",
    "Summarise in one sentence: The tide comes in twice a day, and the harbour fills with boats that wait for it.",
    "Write the numbers from one to ten.",
    'Give me {"name": "Ada", "age": 36} as a sentence.',
    "What is 17 + 25?",
    "List three colours, separated by commas.",
    "Translate to French: Good morning.",
    "def add(a, b):",
)


def choose(job: JobRun, release: Release, count: int) -> tuple[str, list[list[Message]]]:
    """Where they came from, and at most ``count`` prompts as messages, rendered as the endpoint renders them."""
    prompt = release.card.prompt
    with job.catalog.reading() as work:
        sets = [one for one in questions.sets(work, release.agent) if one.purpose in ("skill", "regression")]
        asked = [question.text for one in sets for question in one.questions]
    if asked:
        names = ", ".join(one.name for one in sets)
        return f"question sets {names}", [render(prompt, text) for text in _spread(asked, count)]
    rows = []
    for digest in release.datasets:
        try:
            with job.catalog.reading() as work:
                held = datasets.get(work, digest)
            rows += [row for row in job.artifacts.read_rows(held.uri) if row.kind != "router"]
        except TreadleError:  # forgotten, or on another machine: the built-in prompts will do
            continue
    if rows:
        return "training rows", [render(prompt, row.question, row.history, row.passages) for row in _spread(rows, count)]
    return "built-in prompts", [render(prompt, text) for text in BUILT_IN[:count]]


T = TypeVar("T")


def _spread(found: list[T], count: int) -> list[T]:
    step = max(1, len(found) // count)
    return found[::step][:count]
