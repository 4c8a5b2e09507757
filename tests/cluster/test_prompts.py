"""Prompts cut to a budget, and cards that do not use what is new."""

from typing import Any

import pytest

from cluster.domain.agents import Agent
from cluster.domain.conversations import Message
from cluster.domain.prompts import fitted, prompt_ids, render
from cluster.domain.releases import Release

PASSAGES = [f"Passage number {n} says something of the rent of house {n}." for n in range(8)]
HISTORY = tuple(
    Message(role="user" if n % 2 == 0 else "assistant", content=f"message {n} of a talk that goes on and on") for n in range(12)
)


def words(messages: list[Message]) -> list[int]:
    """A token a word: what is counted here does not depend on a tokenizer."""
    return list(range(sum(len(message.content.split()) for message in messages)))


def fit(room: int, **more: Any) -> Any:
    return fitted(
        words, "Answer tenants.", "What is the rent?", more.pop("history", ()), more.pop("passages", PASSAGES), room, **more
    )


def test_what_fits_is_left_as_it_is() -> None:
    found = fit(10_000, history=HISTORY)
    assert found.ids == words(render("Answer tenants.", "What is the rent?", HISTORY, PASSAGES))
    assert (found.passages, found.history) == (8, HISTORY)


@pytest.mark.parametrize("room", range(0, 120, 3))
def test_as_many_passages_as_fit_the_best_first_and_always_the_question(room: int) -> None:
    found = fit(room)
    sizes = [len(words(render("Answer tenants.", "What is the rent?", (), PASSAGES[:n]))) for n in range(9)]
    assert found.passages == max([n for n, size in enumerate(sizes) if size <= room], default=0)
    assert len(found.ids) == sizes[found.passages]


def test_a_budget_of_tokens_is_for_the_passages_alone() -> None:
    bare = len(words(render("Answer tenants.", "What is the rent?", HISTORY)))
    for budget in (1, 13, 30, 60, 500):
        found = fit(10_000, history=HISTORY, passage_tokens=budget)
        assert len(found.ids) - bare <= budget
        more = len(words(render("Answer tenants.", "What is the rent?", HISTORY, PASSAGES[: found.passages + 1])))
        assert found.passages == 8 or more - bare > budget


@pytest.mark.parametrize("room", [10, 20, 40, 60, 90])
def test_a_talk_is_shortened_from_its_beginning_and_begins_with_the_user(room: int) -> None:
    found = fit(room, history=HISTORY, shorten_history=True)
    assert len(found.ids) <= room
    assert found.history == HISTORY[len(HISTORY) - len(found.history) :]
    assert not found.history or found.history[0].role == "user"
    longer = HISTORY[len(HISTORY) - len(found.history) - 2 :]
    assert len(words(render("Answer tenants.", "What is the rent?", longer))) > room
    assert len(fit(room, history=HISTORY).ids) > room, "unless the card says so, nothing is taken from it"


def test_a_thousand_messages_are_shortened_in_a_few_renderings() -> None:
    rendered = 0

    def counting(messages: list[Message]) -> list[int]:
        nonlocal rendered
        rendered += 1
        return words(messages)

    long = HISTORY * 100
    found = fitted(counting, "", "What?", long, PASSAGES, 100, shorten_history=True)
    assert 0 < len(found.history) < 12
    assert rendered < 25


def test_what_is_left_renders_to_the_same_ids(agent: Agent) -> None:
    from transformers import AutoTokenizer

    from cluster.settings import load_settings

    tokenizer = AutoTokenizer.from_pretrained(load_settings().models.base.location)
    found = fitted(
        lambda messages: prompt_ids(tokenizer, messages), agent.prompt, "What is the rent?", HISTORY, PASSAGES, 232, 90, True
    )
    assert 0 < found.passages < 8
    assert 0 < len(found.history) < 12
    assert found.ids == prompt_ids(
        tokenizer, render(agent.prompt, "What is the rent?", found.history, PASSAGES[: found.passages])
    )


def test_cards_that_use_nothing_new_keep_their_digest() -> None:
    def digest(card: Agent) -> str:
        made = {"adapter_uri": "x", "adapter_digest": "1", "base_model": "b", "base_digest": "2"}
        return Release(agent="a", version="0.1.0", card=card, **made).digest

    plain = Agent(name="a", prompt="Answer.", corpora=("kb",))
    assert digest(plain) == "7e409bb73998b7c1fcd5bffd00a26a9511ae020976276ef8a8769ed67dbf68d5"
    changes: list[dict[str, Any]] = [
        {"passage_tokens": 200},
        {"passage_tokens": "auto"},
        {"shorten_history": True},
        {"when_nothing": "say"},
        {"nothing_said": "Ask the office."},
        {"rewrite": False},
        {"fuse": True},
    ]
    assert len({digest(plain), *(digest(plain.model_copy(update=change)) for change in changes)}) == len(changes) + 1
    for change in changes:
        card = Agent.model_validate({**plain.model_dump(), **change})
        assert Agent.model_validate_json(card.model_dump_json()) == card
