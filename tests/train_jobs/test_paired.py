"""The statistics of the gate, each against another way to the same figure."""

import itertools
import math
import random

import numpy as np
import pytest
from scipy.stats import binomtest

from cluster.domain.intervals import sign_test
from train_jobs.paired import holm, paired_interval, telling


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


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (0, 6), (6, 0), (7, 3), (40, 40), (512, 431)])
def test_sign_test_agrees_with_the_binomial_distribution(won: int, lost: int) -> None:
    wanted = binomtest(won, won + lost, 0.5, alternative="greater").pvalue if won + lost else 1.0
    assert sign_test(won, lost) == pytest.approx(wanted, rel=1e-9)


def test_sign_test_counts_every_throw_of_a_few_coins() -> None:
    throws = list(itertools.product([0, 1], repeat=9))
    for won in range(10):
        assert sign_test(won, 9 - won) == sum(sum(one) >= won for one in throws) / len(throws)


def test_holm_is_the_worked_example_and_never_falls() -> None:
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({}) == {}


def test_holm_keeps_its_promise_over_many_slices() -> None:
    """Sixty slices without any difference: one or more is called worse in at most alpha of the rounds (and now and then one is)."""
    pick = np.random.default_rng(3)
    alpha, rounds, alarms = 0.025, 1000, 0
    chances = {(lost, n): sign_test(lost, n - lost) for n in range(41) for lost in range(n + 1)}
    for _ in range(rounds):
        differing = pick.binomial(40, 0.6, size=60)
        lost = pick.binomial(differing, 0.5)
        tested = {
            str(number): chances[int(one), int(of)]
            for number, (one, of) in enumerate(zip(lost, differing, strict=True))
            if telling(int(of), alpha)
        }
        alarms += any(value <= alpha for value in holm(tested).values())
    assert 0 < alarms / rounds <= alpha


def test_telling_is_what_a_clean_sweep_could_reach() -> None:
    assert [number for number in range(10) if telling(number, 0.025)] == [6, 7, 8, 9]
    assert math.isclose(sign_test(6, 0), 0.5**6)
    assert not telling(0, 1.0)
