import random

import pytest

from cluster.domain.intervals import either_side, rate_of


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    # The examples of Newcombe, Two-sided confidence intervals for the single proportion (1998), table I, method 3.
    [(15, 148, 0.0624, 0.1605), (81, 263, 0.2553, 0.3662), (1, 29, 0.0061, 0.1718), (0, 20, 0.0, 0.1611), (20, 20, 0.8389, 1.0)],
)
def test_intervals_are_wilsons(hits, n, low, high):
    found = rate_of(hits, n)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert found.low <= found.rate <= found.high


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    pick, inside = random.Random(3), 0
    for _ in range(1000):
        found = rate_of(sum(pick.random() < 0.9 for _ in range(40)), 40)
        inside += found.low <= 0.9 <= found.high
    assert 0.92 <= inside / 1000 <= 0.98


@pytest.mark.parametrize(
    ("better", "worse", "p"), [(0, 0, 1.0), (5, 5, 1.0), (1, 0, 1.0), (8, 2, 0.109375), (10, 0, 0.001953125)]
)
def test_the_sign_test_is_exact(better, worse, p):
    assert either_side(better, worse) == either_side(worse, better) == pytest.approx(p)
    assert either_side(3000, 2000) < 1e-10
