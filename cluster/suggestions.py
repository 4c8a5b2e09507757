"""Which slices of an evaluation fail, how, and what data would help.

Near rows: a training row is near a question when they share at least a third of their words (Jaccard similarity of their word sets,
digits taken as alike). On the demo's shell requests, 42 % of the pairs of one command are near by that and 0.2 % of all others. It finds
rows of the same form, not paraphrases, and says nothing of whether a row's answer is right. Of more than 20,000 rows every second (third,
…) is looked at, and counts twice (thrice, …).
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from statistics import median
from typing import Any

import numpy as np

from cluster.domain.base import Frozen
from cluster.domain.intervals import Rate, rate_of
from cluster.domain.questions import Evaluation, Question, QuestionResult

NEAR = 1 / 3
WANTED_ROWS = 10
MOST_ROWS = 20_000
_EXAMPLES = 3
_MOST_SUGGESTIONS = 10
_WORD = re.compile(r"\w+", re.UNICODE)
_DIGITS = re.compile(r"\d+")
_QUESTIONS_AT_A_TIME = 256


class Suggestion(Frozen):
    """One slice that fails ("" is the whole set). ``failing`` is the rate of failures; ``kinds`` how they fail, most frequent first;
    ``near_failing`` and ``near_passing`` the median number of near training rows; ``add`` about how many rows are missing, 0 where more
    rows are not what is missing, None where the release has no training rows to compare with."""

    slice: str
    failing: Rate
    kinds: dict[str, int]
    near_failing: float | None = None
    near_passing: float | None = None
    add: int | None = None
    examples: tuple[str, ...] = ()
    text: str


def suggest(evaluation: Evaluation, asked: Mapping[str, Question], rows: Sequence[str] | None) -> tuple[Suggestion, ...]:
    """The slices that fail, the surest failures first, ten at most. ``asked`` are the questions by id; ``rows`` the questions of the
    release's training rows, None where it has none."""
    judged = [result for result in evaluation.results if result.answered]
    texts = {result.question_id: asked[result.question_id].text for result in judged if result.question_id in asked}
    near = dict(zip(texts, near_counts(list(texts.values()), rows), strict=True)) if rows else None
    passing = [near[one.question_id] for one in judged if one.passed and one.question_id in near] if near else []
    groups: dict[str, list[QuestionResult]] = {}
    for result in judged:
        for name in result.slices or ("",):
            groups.setdefault(name, []).append(result)
    made = []
    for name, inside in groups.items():
        failed = [result for result in inside if not result.passed]
        if failed:
            made.append(_suggestion(name, rate_of(len(failed), len(inside)), failed, asked, (near, passing)))
    made.sort(key=lambda one: (-one.failing.low, -one.failing.hits, one.slice))
    return tuple(made[:_MOST_SUGGESTIONS])


def _suggestion(
    name: str,
    failing: Rate,
    failed: Sequence[QuestionResult],
    asked: Mapping[str, Question],
    rows_near: tuple[Mapping[str, int] | None, Sequence[int]],
) -> Suggestion:
    kinds = Counter(failure_kind(asked.get(result.question_id), result) for result in failed)
    near, passing = rows_near
    known = [asked[result.question_id] for result in failed if result.question_id in asked]
    here = median(near[one.id] for one in known) if near and known else None
    there = median(passing) if passing else None
    wanted = max(WANTED_ROWS, there or 0)
    add = None if here is None else int(max(0, wanted - here)) * forms([one.text for one in known])
    examples = tuple(one.text for one in known[:_EXAMPLES])
    made = Suggestion(
        slice=name,
        failing=failing,
        kinds=dict(kinds.most_common()),
        near_failing=here,
        near_passing=there,
        add=add,
        examples=examples,
        text="",
    )
    return made.model_copy(update={"text": _words(made)})


def _words(one: Suggestion) -> str:
    failing = one.failing
    how = ", ".join(f"{count} {kind}" for kind, count in one.kinds.items())
    said = (
        f"{one.slice or 'The whole set'}: {failing.hits} of {failing.n} fail ({failing.rate:.0%}, at least {failing.low:.0%} with 95% "
        f"confidence): {how}."
    )
    if one.near_failing is None or one.add is None:
        return f"{said} This release has no training rows to compare with."
    beside = f", against {one.near_passing:g} for one that passes" if one.near_passing is not None else ""
    said += f" A question that fails has {one.near_failing:g} training rows near it (median{beside})"
    if one.add:
        first = f"; questions such as “{one.examples[0]}” with right answers" if one.examples else ""
        return f"{said}: add about {one.add} rows like them{first}."
    return f"{said}, so rows of this form are there: see whether their answers are right and alike, or train longer, before adding more."


def failure_kind(question: Question | None, result: QuestionResult) -> str:
    """How a result failed, in a few words that many failures share."""
    answer = result.answer.strip()
    if result.detail.startswith("refused: "):
        return "refused by the server"
    if question is None:
        return "of a question that is no longer in the set"
    match question.kind:
        case "route":
            return _route(question, answer)
        case "rules":
            return f"break {result.detail}"
        case "judge":
            return f"of {' '.join(result.detail.split()[:2]).rstrip(':')}" if result.detail.startswith("grade") else "not graded"
        case "json_schema" if answer:
            return "not JSON" if result.detail.startswith("the answer") else f"off the schema {result.detail.partition(':')[0]}"
    if not answer:
        return "empty"
    if question.kind == "regex":
        return "without the pattern"
    if question.kind == "similarity":
        return "unlike the references"
    return min((_difference(expected, answer) for expected in question.references), key=_CLOSENESS.index)


_CLOSENESS = (
    "off by white space or case",
    "right with more around it",
    "cut off",
    "with a wrong number",
    "with one wrong word",
    "with two or three wrong words",
    "something else",
)


def _route(question: Question, answer: str) -> str:
    if not answer:
        return "taken for out of scope"
    return f"sent to {answer}" if question.expected else f"out of scope, sent to {answer}"


def _difference(expected: str, answer: str) -> str:
    wanted, said = expected.split(), answer.split()
    if [word.lower() for word in wanted] == [word.lower() for word in said]:
        return "off by white space or case"
    if " ".join(wanted) in " ".join(said):
        return "right with more around it"
    if " ".join(wanted).startswith(" ".join(said)):
        return "cut off"
    if [_DIGITS.sub("0", word) for word in wanted] == [_DIGITS.sub("0", word) for word in said]:
        return "with a wrong number"
    wrong = sum(
        max(i2 - i1, j2 - j1)
        for tag, i1, i2, j1, j2 in SequenceMatcher(None, wanted, said, autojunk=False).get_opcodes()
        if tag != "equal"
    )
    if wrong == 1 and len(wanted) > 1:
        return "with one wrong word"
    return "with two or three wrong words" if wrong <= 3 and len(wanted) > wrong else "something else"


def words(text: str) -> frozenset[str]:
    """The set of words that nearness goes by."""
    return frozenset(_DIGITS.sub("0", word.lower()) for word in _WORD.findall(text))


def near_counts(questions: Sequence[str], rows: Sequence[str], most: int = MOST_ROWS) -> list[int]:
    """For each question, how many of the rows are near it; of more than ``most`` rows, about how many."""
    from scipy.sparse import csr_array

    step = max(1, math.ceil(len(rows) / most))
    rows = rows[::step]
    numbers: dict[str, int] = {}
    both = [
        [sorted(numbers.setdefault(word, len(numbers)) for word in words(text)) for text in texts] for texts in (questions, rows)
    ]

    def matrix(sets: list[list[int]]) -> Any:
        ends = np.cumsum([0, *(len(one) for one in sets)])
        columns = np.fromiter((number for one in sets for number in one), dtype=np.int64, count=int(ends[-1]))
        return csr_array((np.ones(len(columns), dtype=np.int64), columns, ends), shape=(len(sets), len(numbers) or 1))

    left, right = matrix(both[0]), matrix(both[1])
    sizes, turned = right.sum(axis=1), right.T.tocsr()
    found: list[int] = []
    for start in range(0, len(questions), _QUESTIONS_AT_A_TIME):
        part = left[start : start + _QUESTIONS_AT_A_TIME]
        shared = (part @ turned).tocoo()
        either = part.sum(axis=1)[shared.row] + sizes[shared.col] - shared.data
        found += (step * np.bincount(shared.row[shared.data >= NEAR * either], minlength=part.shape[0])).tolist()
    return found


def forms(texts: Sequence[str]) -> int:
    """How many different forms the texts have: each stands for those near it that come after."""
    known: list[frozenset[str]] = []
    for text in texts:
        mine = words(text)
        if not any(len(mine & one) >= NEAR * len(mine | one) for one in known):
            known.append(mine)
    return len(known)
