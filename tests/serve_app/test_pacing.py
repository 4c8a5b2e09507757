"""Deltas grow with the load and with the model's speed, within bounds."""

from serve_app.pacing import MOST_GAP_S, MOST_TOGETHER, Pace


def test_nothing_is_held_back_before_anything_is_known() -> None:
    assert Pace().tokens(500) == 1


def test_a_slow_model_gives_each_token_at_once_and_a_fast_one_several_under_load() -> None:
    slow, fast = Pace(), Pace()
    slow.saw(10, 10 * 2 * MOST_GAP_S)
    fast.saw(10, 10 * 0.02)
    assert [slow.tokens(running) for running in (1, 32, 500)] == [1, 1, 1]
    assert [fast.tokens(running) for running in (1, 8, 32, 500)] == [1, 1, 5, 5]
    fast.saw(1000, 0.001)
    for _ in range(200):
        fast.saw(1000, 0.001)
    assert fast.tokens(500) == MOST_TOGETHER


def test_an_answer_of_one_token_says_nothing() -> None:
    pace = Pace()
    pace.saw(0, 5.0)
    assert pace.tokens(32) == 1
