"""Conversations with the demo's three agents and a head taught from the demo's rows: what follows an answer stays with who gave it,
and a question for another agent goes to that one. Prints its figures: pytest -s."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import routing
from cluster.domain.agents import Agent
from cluster.domain.conversations import Route
from cluster.domain.datasets import RouterRow
from cluster.domain.recipes import RouterRecipe
from cluster.settings import ROOT
from serve_app.picking import SURE, staying
from serve_app.router import RouterHead
from tests.serve_app.conftest import embedder
from train_jobs import router_head

DEMO = ROOT / "configs" / "demo"
NAMES = ("linux", "property", "python")
ANYBODYS = (
    "And how do I undo that?",
    "Why?",
    "Can you explain that?",
    "What does the second part mean?",
    "Shorter, please.",
    "Thanks! And the other one?",
    "Is that safe?",
    "What if it fails?",
    "Do the same for the next one.",
    "No, I meant the first.",
    "How long does that take?",
    "Can you show me another way?",
    "Are you sure?",
    "And after that?",
    "What was that again?",
    "Could you say that more simply?",
    "Does it work for several at once?",
    "That did not help.",
    "And for yesterday?",
    "Is there anything else I should do?",
    "Go on.",
    "Which of them is better?",
    "And without that?",
    "Can it be done every day?",
    "Please repeat the last one.",
    "What should I do first?",
    "Same again, but for 20.",
    "Hmm, it says permission denied.",
    "It still does not work.",
    "Who can do that?",
)
OWN = {
    "linux": (
        "Only those below /tmp, please.",
        "And sorted by size?",
        "Now the same but recursively.",
        "How do I do that as root?",
        "Only the hidden ones.",
        "And count them?",
        "Now with the names only.",
        "What does the -r mean?",
        "Without asking for each one.",
        "And on the other server?",
    ),
    "property": (
        "It is getting worse.",
        "When will somebody come?",
        "I am only at home in the evening.",
        "It is flat 12 now.",
        "Nobody came today.",
        "Is there a phone number for that?",
        "And on weekends?",
        "Do I have to pay for it?",
        "What about my neighbours?",
        "Can you send somebody earlier?",
    ),
    "python": (
        "And in reverse?",
        "As a function, please.",
        "Without a lambda.",
        "What if the list is empty?",
        "Now keep only the first three.",
        "And as a tuple?",
        "Can it be one line?",
        "Ignore upper and lower case.",
        "With a default of 0.",
        "And for the keys instead of the values?",
    ),
}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> RouterHead:
    cards = [Agent.model_validate(yaml.safe_load((DEMO / "agents" / f"{name}.yaml").read_text())) for name in NAMES]
    rows = [RouterRow.model_validate(json.loads(line)) for line in (DEMO / "router.jsonl").read_text().splitlines()]
    texts, labels, _ = router_head.collect(cards, rows)
    recipe = RouterRecipe(out_of_scope_recall=0.995)
    made = router_head.teach(NAMES, texts, embedder().embed(texts), labels, recipe, embedder().name)
    place: Path = tmp_path_factory.mktemp("head")
    routing.save(place, made.head, {})
    return RouterHead(place, "router@0.0.0", embedder().name)


def asked() -> dict[str | None, list[str]]:
    """The demo's held-out routing questions by agent; None for nobody's."""
    found: dict[str | None, list[str]] = {}
    for one in yaml.safe_load((DEMO / "questions" / "routing.yaml").read_text())["questions"]:
        found.setdefault(one["expected"], []).append(one["text"])
    return found


def share(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


def routes(head: RouterHead, texts: list[str]) -> dict[str, Route]:
    vectors = embedder().embed(texts)
    return {text: head.route(vector, text, set(NAMES), "default") for text, vector in zip(texts, vectors, strict=True)}


def test_follow_ups_stay_and_other_topics_go(head: RouterHead) -> None:
    questions = asked()
    said: dict[str, Any] = routes(head, [*ANYBODYS, *(text for own in OWN.values() for text in own)])
    said |= routes(head, [text for name in NAMES for text in questions[name]])
    anybodys = share([staying(said[text], name).agent == name for name in NAMES for text in ANYBODYS])
    own = share([staying(said[text], name).agent == name for name in NAMES for text in OWN[name]])
    alone = share([said[text].agent == name for name in NAMES for text in (*ANYBODYS, *OWN[name])])
    moved = share([staying(said[text], old).agent == new for old, new in permutations(NAMES, 2) for text in questions[new]])
    print(f"margin {SURE}: anybody's {anybodys:.3f}, own {own:.3f} (alone, both: {alone:.3f}), other topics {moved:.3f}")
    assert anybodys >= 0.93
    assert own >= 0.96
    assert alone < 0.5, "without the conversation most of them are lost, or this test shows nothing"
    assert moved >= 0.97


def test_the_question_before_brings_follow_ups_back_where_no_conversation_is_named(head: RouterHead) -> None:
    questions = asked()
    follows = [(questions[name][number], text, name) for name in NAMES for text in (*ANYBODYS, *OWN[name]) for number in (3, 40)]
    alone = routes(head, [text for _, text, _ in follows])
    joined = routes(head, [f"{before}\n{text}" for before, text, _ in follows])
    by_itself = share([alone[text].agent == name for _, text, name in follows])
    with_both = share(
        [
            (joined[f"{before}\n{text}"] if alone[text].out_of_scope else alone[text]).agent == name
            for before, text, name in follows
        ]
    )
    print(f"history only: by itself {by_itself:.3f}, with the question before {with_both:.3f}")
    assert with_both >= 0.85
    assert with_both - by_itself > 0.5
