"""Comparisons of two releases, and what they decide together."""

from functools import cache

import numpy as np
import pytest

from cluster.domain.questions import Evaluation, Purpose, Question, QuestionResult, QuestionSet
from cluster.domain.verdicts import Comparison, Leak
from cluster.errors import InvalidInput
from train_jobs.compare import compare, decide


@cache
def question_set(n: int, name: str = "skill", purpose: Purpose = "skill", parts: int = 2) -> QuestionSet:
    """Questions in ``parts`` slices, in turn."""
    made = tuple(Question(id=f"q{i}", text="t", expected="e", slices=(f"part{i % parts}",)) for i in range(n))
    return QuestionSet(name=name, agent="a", purpose=purpose, questions=made)


@cache
def digest(asked: QuestionSet) -> str:
    return asked.digest


def evaluation(asked: QuestionSet, release: str, passed: list[bool]) -> Evaluation:
    results = [
        QuestionResult(question_id=question.id, answer="", passed=good, slices=question.slices)
        for question, good in zip(asked.questions, passed, strict=True)
    ]
    return Evaluation(release=release, question_set=asked.name, set_digest=digest(asked), results=tuple(results))


def outcome(
    champion: list[bool],
    challenger: list[bool],
    name: str = "skill",
    purpose: Purpose = "skill",
    parts: int = 2,
    leaks: tuple[Leak, ...] = (),
) -> Comparison:
    asked = question_set(len(champion), name, purpose, parts)
    return compare(asked, evaluation(asked, "a@0.1.0", champion), evaluation(asked, "a@0.2.0", challenger), leaks=leaks)


BETTER = ([False] * 60 + [True] * 140, [True] * 200)


def test_surely_better_is_promoted() -> None:
    verdict = decide([outcome(*BETTER)], tolerance=0.02)
    assert verdict.verdict == "promote"
    interval = verdict.comparisons[0].interval
    assert interval is not None
    low, high = interval
    assert low > 0.2
    assert verdict.reasons == (
        "On skill (n = 200) the challenger passes 100.0% and the champion 70.0%, "
        f"difference +30.0% [{low:+.1%}, {high:+.1%}], sign test p = 1.7e-18: it is better.",
    )


def test_equal_is_kept() -> None:
    verdict = decide([outcome([True] * 200, [True] * 200)], tolerance=0.02)
    assert verdict.verdict == "keep"
    assert verdict.reasons[0].endswith("[+0.0%, +0.0%], sign test p = 1: it is not measurably better.")


def test_better_in_one_and_worse_in_another_is_kept_with_the_slice() -> None:
    bad = outcome([True] * 200, [number % 2 == 1 or number < 100 for number in range(200)], name="other")
    verdict = decide([outcome(*BETTER), bad], tolerance=0.02)
    assert verdict.verdict == "keep"
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].startswith("On other")
    assert verdict.reasons[0].endswith("it is worse, surely in part0 (50 of 100 passed, 100 before).")


def test_a_slice_that_lost_is_found_where_the_set_as_a_whole_gained() -> None:
    champion = [number % 4 != 1 for number in range(200)]  # part1 fails altogether
    challenger = [number % 4 != 0 or number >= 80 for number in range(200)]  # part1 learnt, 20 of part0 lost
    verdict = decide([outcome(champion, challenger, parts=4)], tolerance=0.02)
    assert verdict.comparisons[0].difference == pytest.approx(0.15)
    assert verdict.comparisons[0].worse_slices == ("part0",)
    assert verdict.verdict == "keep"
    assert "within 2.0%, but it is worse, surely in part0 (30 of 50 passed, 50 before)" in verdict.reasons[0]


def test_one_lost_kind_among_many_small_ones_is_found() -> None:
    """24 kinds of five to eight questions: correcting for all of them would hide one that is lost whole."""
    challenger = [number % 24 != 3 for number in range(24 * 8)]
    found = outcome([True] * len(challenger), challenger, parts=24)
    assert found.worse_slices == ("part3",)
    assert decide([found], tolerance=0.5).verdict == "keep"


def test_slices_of_a_few_questions_are_not_judged() -> None:
    assert outcome([True] * 8, [False] * 8, parts=2).slices == ()


def test_a_few_questions_lost_by_chance_are_within_tolerance() -> None:
    slightly = outcome([True] * 200, [True] * 199 + [False], name="other")
    assert decide([slightly], tolerance=0.02).verdict == "keep"  # not better
    assert decide([slightly, outcome(*BETTER)], tolerance=0.02).verdict == "promote"
    assert decide([slightly, outcome(*BETTER)], tolerance=0.0).verdict == "keep"


def test_four_questions_won_are_no_proof_although_the_interval_says_so() -> None:
    found = outcome([False] * 4 + [True] * 96, [True] * 100)
    assert found.interval is not None
    assert found.interval[0] > 0
    assert found.p_better == 1 / 16
    assert decide([found], tolerance=0.02).verdict == "keep"


@pytest.mark.parametrize("purpose", ["regression", "guard"])
def test_a_broken_question_of_a_strict_set_refuses_by_name(purpose: Purpose) -> None:
    champion, challenger = [True] * 39 + [False], [True] * 7 + [False] + [True] * 32
    strict = outcome(champion, challenger, name="a-strict", purpose=purpose)
    verdict = decide([outcome(*BETTER), strict], tolerance=0.5)
    assert verdict.verdict == "keep"
    assert verdict.reasons == (
        "On a-strict (n = 40, where no question may break) the challenger fails what the champion passes: q7.",
    )
    fixed = "On a-strict the challenger passes 1 that the champion fails: q39."
    assert verdict.notes == ((fixed,) if purpose == "regression" else ())


def test_a_set_of_three_has_no_interval_and_each_question_counts() -> None:
    small = outcome([True, True, False], [True, True, True], name="small")
    assert small.interval is None
    verdict = decide([outcome(*BETTER), small], tolerance=0.02)
    assert verdict.verdict == "promote"
    assert verdict.notes == ("small has 3 questions to compare, too few for an interval: each counts alone.",)
    assert decide([small], tolerance=0.02).verdict == "keep"
    broken = outcome([True, True, False], [True, False, True], name="small")
    assert decide([outcome(*BETTER), broken], tolerance=0.5).reasons[0].endswith("fails what the champion passes: q1.")


def leaks(count: int) -> tuple[Leak, ...]:
    return tuple(
        Leak(question_id=f"q{i}", source=f"rows@0123: line {i}", share=1.0, slices=(f"part{i % 2}",)) for i in range(count)
    )


def test_leaked_questions_are_left_out_and_too_many_refuse() -> None:
    few = outcome(*BETTER, leaks=leaks(10))
    assert (few.n, few.asked, few.champion_rate) == (190, 200, pytest.approx(140 / 190))
    verdict = decide([few], tolerance=0.02, max_leaked=0.05)
    assert verdict.verdict == "promote"
    assert verdict.notes[0].startswith(
        "On skill 10 of 200 questions stand in the challenger's training rows (slices: part0 5, part1 5): "
    )
    assert verdict.notes[0].endswith("q0 ↔ rows@0123: line 0, q1 ↔ rows@0123: line 1, q2 ↔ rows@0123: line 2 and 7 more; they were left "
                                     "out of the comparison.")  # fmt: skip
    refused = decide([outcome(*BETTER, leaks=leaks(11))], tolerance=0.02, max_leaked=0.05)
    assert refused.verdict == "keep"
    assert refused.reasons[0].endswith("and 8 more, more than 5.0% of them: the set cannot judge it.")


def test_a_set_that_leaked_whole_compares_nothing() -> None:
    found = outcome([False] * 20, [True] * 20, leaks=leaks(20))
    assert (found.n, found.interval, found.challenger_rate) == (0, None, 0.0)
    assert decide([found], tolerance=0.02).verdict == "keep"


def test_evaluations_of_different_questions_do_not_compare() -> None:
    asked, other = question_set(10), question_set(11)
    with pytest.raises(InvalidInput, match="are of different questions"):
        compare(asked, evaluation(asked, "a@1.0.0", [True] * 10), evaluation(other, "a@1.0.1", [True] * 11))


@pytest.mark.parametrize(("n", "differing"), [(50, 0.3), (200, 0.04), (200, 0.3)])
def test_equals_are_promoted_by_chance_in_five_of_a_hundred_at_most(n: int, differing: float) -> None:
    """Two releases that differ on some questions, as often one way as the other; two sets, and a tolerance that forgives everything."""
    pick = np.random.default_rng(int(n + 1000 * differing))
    rounds, promoted = 120, 0
    for _ in range(rounds):
        comparisons = []
        for name in ("one", "two"):
            drawn = pick.choice([-1, 0, 1], p=[differing / 2, 1 - differing, differing / 2], size=n)
            comparisons.append(outcome((drawn == -1).tolist(), (drawn == 1).tolist(), name=name, parts=5))
        promoted += decide(comparisons, tolerance=0.5).verdict == "promote"
    assert promoted / rounds <= 0.05


def test_ten_points_better_on_200_questions_is_promoted_most_of_the_time() -> None:
    pick = np.random.default_rng(8)
    rounds, promoted = 100, 0
    for _ in range(rounds):
        drawn = pick.choice([-1, 0, 1], p=[0.03, 0.84, 0.13], size=200)
        promoted += decide([outcome((drawn == -1).tolist(), (drawn == 1).tolist(), parts=5)], tolerance=0.02).verdict == "promote"
    assert promoted / rounds >= 0.9
