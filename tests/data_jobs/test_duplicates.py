"""Planted duplicates are found and nothing else."""

import random

import pytest

from data_jobs.duplicates import Fingerprint, _bands, find_duplicates, signature
from data_jobs.wash import text_digest

WORDS = ["".join(random.Random(number).choices("abcdefghijklmnop", k=6)) for number in range(4000)]


def text(seed: int, count: int = 200) -> list[str]:
    return random.Random(seed).choices(WORDS, k=count)


def fingerprint(source: str, said: list[str]) -> Fingerprint:
    return Fingerprint(source, text_digest(" ".join(said)), signature(" ".join(said)))


def jaccard(left: list[str], right: list[str]) -> float:
    a, b = ({tuple(words[place : place + 3]) for place in range(len(words) - 2)} for words in (left, right))
    return len(a & b) / len(a | b)


def test_planted_twins_are_found_with_the_kept_one_named() -> None:
    pick = random.Random(1)
    prints = [fingerprint(f"doc{number:04}", text(number)) for number in range(400)]
    exact, near = {}, {}
    for number in range(100):
        exact[f"exact{number:04}"] = f"doc{number:04}"
        prints.append(fingerprint(f"exact{number:04}", text(number)))
        changed = text(number + 100)
        changed[pick.randrange(200)] = "changed"
        near[f"near{number:04}"] = f"doc{number + 100:04}"
        assert jaccard(changed, text(number + 100)) > 0.95
        prints.append(fingerprint(f"near{number:04}", changed))
    pick.shuffle(prints)
    dropped = find_duplicates(prints, 0.85)
    assert {one.source: one.of for one in dropped if one.reason == "exact_duplicate"} == exact
    assert {one.source: one.of for one in dropped if one.reason == "near_duplicate"} == near


def test_texts_that_share_half_are_no_twins() -> None:
    prints = [fingerprint(f"a{number}", text(number, 100) + text(number + 5000, 100)) for number in range(50)]
    prints += [fingerprint(f"b{number}", text(number, 100) + text(number + 9000, 100)) for number in range(50)]
    assert find_duplicates(prints, 0.85) == []


def test_short_texts_that_differ_in_a_number_both_stay() -> None:
    prints = [
        fingerprint(str(number), f"The monthly rent of flat {number} in Oak House is {900 + number} including heating".split())
        for number in range(40)
    ]
    assert all(one.signature == b"" for one in prints)
    assert find_duplicates(prints, 0.85) == []


def test_a_twin_of_a_dropped_twin_names_the_kept_one() -> None:
    prints = [fingerprint(name, text(7)) for name in ("c", "a", "b")]
    assert [(one.source, one.of) for one in find_duplicates(prints, 0.85)] == [("b", "a"), ("c", "a")]


def test_the_order_of_arrival_does_not_matter() -> None:
    prints = [fingerprint(f"{number:03}", text(number % 20)) for number in range(60)]
    expected = find_duplicates(prints, 0.85)
    random.Random(2).shuffle(prints)
    assert find_duplicates(prints, 0.85) == expected
    assert len(expected) == 40


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.85, 0.95, 1.0])
def test_hashing_misses_next_to_no_pair_at_the_threshold(threshold: float) -> None:
    bands, rows = _bands(threshold)
    assert bands * rows <= 256
    assert (1 - threshold**rows) ** bands < 1e-4
