"""Tests that may be looked at after every answer: false alarms stay rare, real differences are found."""

import math

import numpy as np
import pytest

from cluster.domain.evidence import bounds, median_of, more_heads, more_often, p_value

ALPHA = 0.05
LOOKS = 2000


def drawn(pick, share, champion, challenger, n=LOOKS):
    """Sides and outcomes; the rates may change from one turn to the next."""
    sides = (pick.random(n) < share).astype(int)
    return sides, (pick.random(n) < np.where(sides == 1, challenger, champion)).astype(int)


def alarms(share, champion, challenger, n=LOOKS, runs=500):
    """How often one is raised at any of the looks after each of ``n`` turns."""
    pick = np.random.default_rng(7)
    return sum(p_value(more_often(*drawn(pick, share, champion, challenger, n))) <= ALPHA for _ in range(runs)) / runs


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 0.8])
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_no_difference_is_called_one_no_more_often_than_alpha_with_a_look_after_every_turn(share, rate):
    assert alarms(share, rate, rate) <= ALPHA


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.8])
def test_rates_that_drift_and_better_challengers_raise_no_alarms_either(share):
    for drift in (np.linspace(0.02, 0.6, LOOKS), np.linspace(0.6, 0.02, LOOKS), np.arange(LOOKS) % 200 / 250):
        assert alarms(share, drift, drift) <= ALPHA
    assert alarms(share, 0.2, 0.1) <= ALPHA


def test_the_largest_wealth_is_what_looking_after_every_turn_finds():
    sides, events = drawn(np.random.default_rng(9), 0.3, 0.1, 0.3, 400)
    looks = [more_often(sides[:n], events[:n]) for n in range(401)]
    assert looks == sorted(looks)
    assert looks[-1] > math.log(1 / ALPHA)


@pytest.mark.parametrize(
    ("champion", "challenger", "share", "turns"), [(0.05, 0.5, 0.1, 250), (0.05, 0.2, 0.5, 500), (0.0, 1.0, 0.5, 30)]
)
def test_a_real_difference_is_found(champion, challenger, share, turns):
    assert alarms(share, champion, challenger, turns, 200) >= 0.9


def test_the_factor_of_a_block_is_the_papers():
    """Two blocks of two and one by hand: the first is no bet (both estimates are the prior's), the second bets on what the first said."""
    prior = 0.18
    one, other = prior / (2 * prior + 2), (prior + 1) / (2 * prior + 1)
    mean = (2 * one + other) / 3
    wealth = math.log((1 - one) ** 2 * other / ((1 - mean) ** 2 * mean))
    assert more_often([0, 0, 1, 0, 0, 1], [0, 0, 1, 0, 0, 1]) == pytest.approx(wealth)
    assert more_often([0, 0, 1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1, 1, 1]) == pytest.approx(wealth), "a block that is not whole"
    assert more_often([1, 1, 0, 1, 1, 0], [0, 0, 1, 0, 0, 1]) == 0.0


def test_a_fair_coin_is_seldom_called_unfair_and_an_unfair_one_is_found():
    pick = np.random.default_rng(11)
    fair = sum(p_value(more_heads(pick.integers(0, 2, LOOKS))) <= ALPHA for _ in range(1000)) / 1000
    unfair = sum(p_value(more_heads((pick.random(60) < 0.8).astype(int))) <= ALPHA for _ in range(200)) / 200
    assert fair <= ALPHA
    assert unfair >= 0.9
    assert more_heads([]) == more_heads([0, 0, 0]) == 0.0


@pytest.mark.parametrize("rate", [0.03, 0.5])
def test_bounds_hold_at_all_looks_together(rate):
    pick, broken = np.random.default_rng(12), 0
    for _ in range(300):
        hits = np.cumsum(pick.random(400) < rate)
        for n in range(1, 401, 3):
            low, high = bounds(int(hits[n - 1]), n, ALPHA)
            if not low <= rate <= high:
                broken += 1
                break
    assert broken / 300 <= ALPHA
    assert bounds(0, 0, ALPHA) == (0.0, 1.0)
    low, high = bounds(300, 1000, ALPHA)
    assert 0.24 < low < 0.3 < high < 0.36


def test_the_medians_bounds_are_two_of_the_values():
    middle, low, high = median_of([float(n) for n in range(1, 101)])
    assert (middle, low, high) == (50.5, 41.0, 61.0)
    assert median_of([3.0]) == (3.0, 3.0, 3.0)
