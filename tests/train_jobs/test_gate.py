"""The gate's statistics and its verdicts."""

import random

import numpy as np
import pytest

from cluster.domain.questions import Evaluation, Question, QuestionResult, QuestionSet
from cluster.errors import InvalidInput
from train_jobs.gate import Comparison, compare, decide, paired_interval

N = 200


def question_set(n: int = N, name: str = "skill") -> QuestionSet:
    slices = [("even",) if number % 2 == 0 else ("odd",) for number in range(n)]
    return QuestionSet(
        name=name, agent="a", questions=tuple(Question(id=f"q{i}", text="t", expected="e", slices=slices[i]) for i in range(n))
    )


def evaluation(asked: QuestionSet, release: str, passed: list[bool]) -> Evaluation:
    results = [
        QuestionResult(question_id=question.id, answer="", passed=good, slices=question.slices)
        for question, good in zip(asked.questions, passed, strict=True)
    ]
    return Evaluation(release=release, question_set=asked.name, set_digest=asked.digest, results=tuple(results))


def outcome(champion: list[bool], challenger: list[bool]) -> Comparison:
    asked = question_set(len(champion))
    return compare(asked, evaluation(asked, "a@0.1.0", champion), evaluation(asked, "a@0.2.0", challenger))


def test_interval_agrees_with_the_normal_approximation() -> None:
    pick = random.Random(5)
    before = [pick.random() < 0.6 for _ in range(1000)]
    after = [good or pick.random() < 0.2 for good in before]
    differences = np.array(after, dtype=float) - np.array(before, dtype=float)
    error = 1.96 * differences.std() / np.sqrt(1000)
    low, high = paired_interval(before, after)
    assert low == pytest.approx(differences.mean() - error, abs=0.003)
    assert high == pytest.approx(differences.mean() + error, abs=0.003)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    pick = np.random.default_rng(11)
    truth, hits, rounds = 0.1, 0, 200
    for number in range(rounds):
        drawn = pick.choice([-1, 0, 1], p=[0.1, 0.7, 0.2], size=150)
        low, high = paired_interval((drawn == -1).tolist(), (drawn == 1).tolist(), seed=number)
        hits += low <= truth <= high
    assert 0.90 <= hits / rounds <= 0.99


def test_interval_is_repeatable_and_pairs_matter() -> None:
    before = [True] * 50 + [False] * 50
    shuffled = before[::-1]
    assert paired_interval(before, before) == (0.0, 0.0)
    assert paired_interval(before, shuffled) == paired_interval(before, shuffled)
    low, high = paired_interval(before, shuffled)  # equal rates, opposite answers
    assert low < -0.1 < 0.1 < high


def test_surely_better_is_promoted() -> None:
    verdict = decide([outcome([False] * 60 + [True] * 140, [True] * 200)], tolerance=0.02)
    assert verdict.verdict == "promote"
    low, high = verdict.comparisons[0].interval
    assert low > 0.2
    assert verdict.reasons == (
        "On skill (n = 200) the challenger passes 100.0% and the champion 70.0%, "
        f"difference +30.0% [{low:+.1%}, {high:+.1%}]: it is better.",
    )


def test_equal_is_kept() -> None:
    verdict = decide([outcome([True] * 200, [True] * 200)], tolerance=0.02)
    assert verdict.verdict == "keep"
    assert verdict.reasons[0].endswith("[+0.0%, +0.0%]: it is not measurably better.")


def test_better_in_one_and_worse_in_another_is_kept_with_the_slice() -> None:
    good = outcome([False] * 60 + [True] * 140, [True] * 200)
    bad = outcome([True] * 200, [number % 2 == 1 or number < 100 for number in range(200)])
    verdict = decide([good, bad], tolerance=0.02)
    assert verdict.verdict == "keep"
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].endswith("it may be worse by more than 2.0%, surely in even.")


def test_a_few_questions_lost_by_chance_are_within_tolerance() -> None:
    slightly = outcome([True] * 200, [True] * 199 + [False])
    assert decide([slightly], tolerance=0.02).verdict == "keep"  # not better
    better = outcome([False] * 60 + [True] * 140, [True] * 200)
    assert decide([slightly, better], tolerance=0.02).verdict == "promote"
    assert decide([slightly, better], tolerance=0.0).verdict == "keep"


def test_evaluations_of_different_questions_do_not_compare() -> None:
    asked, other = question_set(10), question_set(11)
    with pytest.raises(InvalidInput, match="are of different questions"):
        compare(asked, evaluation(asked, "a@1.0.0", [True] * 10), evaluation(other, "a@1.0.1", [True] * 11))
