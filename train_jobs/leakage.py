"""Which questions of a set a release has met in training: the same text, or nearly the same.

Overlap of word n-grams between training rows and test questions, as language models are cleaned of their benchmarks (Brown et al., Language
Models are Few-Shot Learners, 2020, appendix C). How much of a question a row holds is its containment (Broder, On the resemblance and
containment of documents, 1997) over runs of one to three words, each weighted by its inverse document frequency (Spärck Jones, 1972): what
all requests of a kind have in common weighs little, and what tells two of them apart weighs much, so that requests made from one
template are no leaks of one another. For the same reason a row must hold every number of the question (words with a digit).

Questions are told apart by their words alone: it finds no paraphrase in other words and no translation, and it does not mind the answers.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from typing import Iterable, NamedTuple, Sequence

from cluster.domain.datasets import GuardRow, RouterRow, Row
from cluster.domain.questions import Question

NEAR = 0.85  # containment from which a question counts as met; see DECISIONS.md for how it was chosen
_ORDERS = (1, 2, 3)  # words in a run
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


class Match(NamedTuple):
    """A question and the training row that held it; ``share`` is 1.0 for the same words in the same order."""

    question_id: str
    source: str
    share: float


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; a character each in scripts that write no spaces."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def asked_in(row: Row) -> list[str]:
    """The texts of a row that could be a question: what is asked, and what was asked before it."""
    if isinstance(row, RouterRow | GuardRow):
        return [row.text]
    return [row.question, *(message.content for message in row.history if message.role == "user")]


def find(questions: Sequence[Question], rows: Iterable[tuple[str, Row]], near: float = NEAR) -> dict[str, Match]:
    """``{question id: its closest row}`` for every question that some row holds. ``rows`` are ``(dataset, row)``; a match's source is
    ``dataset: row.source``.

    Only rows that share one of a question's rarest runs are compared (prefix filter: Chaudhuri et al., A Primitive Operator for Similarity
    Joins in Data Cleaning, 2006), because without them its containment cannot reach ``near``. Linear in the rows.
    """
    asked = {question.id: words(question.text) for question in questions}
    grams = {name: _grams(text) for name, text in asked.items() if text}
    numbers: dict[str, int] = {}
    for found in grams.values():
        for gram in found:
            numbers.setdefault(gram, len(numbers))
    held, sources, same = _held(rows, numbers)
    counts = Counter(number for gram in held for number in gram)
    weight = {number: math.log((len(held) + 1) / (counts[number] + 0.5)) for number in numbers.values()}
    wanted = {name: {numbers[gram] for gram in found} for name, found in grams.items()}
    exact = {name: same[" ".join(asked[name])] for name in wanted if " ".join(asked[name]) in same}
    matches = {name: Match(name, sources[row], 1.0) for name, row in exact.items()}
    figures = {name: {numbers[word] for word in asked[name] if any(sign.isdigit() for sign in word)} for name in wanted}
    left = {name: found for name, found in wanted.items() if name not in exact}
    closest = _closest(left, figures, held, weight, near)
    matches.update({name: Match(name, sources[row], round(share, 3)) for name, (row, share) in closest.items()})
    return matches


def _grams(text: Sequence[str]) -> set[str]:
    return {" ".join(text[at : at + order]) for order in _ORDERS for at in range(len(text) - order + 1)}


def _held(rows: Iterable[tuple[str, Row]], numbers: dict[str, int]) -> tuple[list[list[int]], list[str], dict[str, int]]:
    """Of every text that rows ask: the numbers of the known grams in it, where it came from, and its place by its words. Texts asked
    more than once count once: a row that is repeated would make its words look common."""
    held: list[list[int]] = []
    sources: list[str] = []
    same: dict[str, int] = {}
    for dataset, row in rows:
        for text in asked_in(row):
            said = words(text)
            key = " ".join(said)
            if not said or key in same:
                continue
            same[key] = len(held)
            held.append([number for gram in _grams(said) if (number := numbers.get(gram)) is not None])
            sources.append(f"{dataset}: {row.source}")
    return held, sources, same


def _closest(
    wanted: dict[str, set[int]], figures: dict[str, set[int]], held: Sequence[list[int]], weight: dict[int, float], near: float
) -> dict[str, tuple[int, float]]:
    total = {name: sum(weight[number] for number in found) for name, found in wanted.items()}
    rare: dict[int, list[str]] = defaultdict(list)
    for name, found in wanted.items():
        left = (1 - near) * total[name]
        for number in sorted(found, key=lambda one: -weight[one]):
            rare[number].append(name)
            left -= weight[number]
            if left < 0:
                break
    best: dict[str, tuple[int, float]] = {}
    for place, row in enumerate(held):
        present = set(row)
        for name in {name for number in row for name in rare.get(number, ())}:
            if not figures[name] <= present:
                continue
            share = sum(weight[number] for number in wanted[name] & present) / total[name]
            if share >= near and share > best.get(name, (0, 0.0))[1]:
                best[name] = (place, share)
    return best
