"""The router head: classes, out of scope, calibration, and the released bundle."""

import json
import re
from typing import Callable

import numpy as np
import pytest

from cluster.catalog import agents, datasets, releases
from cluster.domain.agents import ROUTER, Agent
from cluster.domain.base import Frozen
from cluster.domain.datasets import Dataset, RouterRow, rows_digest
from cluster.domain.recipes import RouterRecipe
from cluster.embedding import Embedder
from cluster.errors import InvalidInput
from cluster.job_run import JobRun
from train_jobs import router_head

Opener = Callable[[str, Frozen], JobRun]
RECIPE = RouterRecipe(rows="x", l2=3e-4)


def clouds(per_class: int, classes: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around ``classes`` orthogonal centres."""
    pick = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    points = np.eye(16)[labels] + spread * pick.normal(size=(len(labels), 16))
    return points / np.linalg.norm(points, axis=1, keepdims=True), labels


def test_agents_and_strangers_are_told_apart_on_unseen_points() -> None:
    vectors, labels = clouds(40, 4, 0.15)  # the last class is "no agent"
    held = router_head.held_out_logits(vectors, labels, RECIPE)
    calibration = router_head.calibrate(held, labels, 3, recall=0.9)
    head = router_head.fit(vectors, labels, RECIPE.l2)
    unseen, truth = clouds(100, 4, 0.15, seed=1)
    scores = router_head.softmax(router_head.logits(head, unseen) / calibration.temperature)[:, :3]
    known = scores.max(axis=1) >= calibration.threshold
    inside = truth < 3
    assert ((scores.argmax(axis=1) == truth) & known)[inside].mean() > 0.97
    assert (~known)[~inside].mean() > 0.95
    assert calibration.metrics["out_of_scope_recall"] >= 0.9
    assert calibration.metrics["calibration_error"] < 0.1


def test_without_strangers_the_threshold_refuses_few() -> None:
    vectors, labels = clouds(50, 3, 0.3)
    calibration = router_head.calibrate(router_head.held_out_logits(vectors, labels, RECIPE), labels, 3, recall=0.9)
    assert 0.9 < calibration.metrics["in_scope_accuracy"] <= 1.0
    assert "out_of_scope_recall" not in calibration.metrics
    assert 1 / 3 < calibration.threshold < 1


def test_two_agents_alone_make_two_rows() -> None:
    vectors, labels = clouds(20, 2, 0.1)
    head = router_head.fit(vectors, labels, 1e-3)
    assert head.weights.shape == (2, 16)
    assert (router_head.logits(head, vectors).argmax(axis=1) == labels).all()


def test_temperature_makes_confidence_honest() -> None:
    vectors, labels = clouds(80, 3, 0.5)
    held = router_head.held_out_logits(vectors, labels, RECIPE)
    honest = router_head.calibrate(held, labels, 3, recall=0.9)
    boastful = router_head.calibrate(held * 4, labels, 3, recall=0.9)
    assert boastful.temperature == pytest.approx(4 * honest.temperature, rel=0.1)


def test_a_single_example_cannot_be_held_out() -> None:
    vectors, labels = clouds(5, 3, 0.1)
    with pytest.raises(InvalidInput, match="single routing example"):
        router_head.held_out_logits(vectors[:-4], labels[:-4], RECIPE)


def test_texts_come_from_cards_and_rows_and_the_later_judgement_wins() -> None:
    cards = [Agent(name="a", description="About a.", examples=("one", "two")), Agent(name="b", examples=("three",))]
    rows = [
        RouterRow(text="two", agent="b", source="signal"),
        RouterRow(text="four", agent=None, source="s"),
        RouterRow(text="five", agent="gone", source="s"),
    ]
    texts, labels, dropped = router_head.collect(cards, rows)
    assert dict(zip(texts, labels.tolist(), strict=True)) == {"About a.": 0, "one": 0, "two": 1, "three": 1, "four": 2}
    assert dropped == {"for 'gone', which is not routed to": 1}
    with pytest.raises(InvalidInput, match="Agent 'c' has no routing examples"):
        router_head.collect([*cards, Agent(name="c")], rows)


TALK = {
    "cook": "Bake a cake. How long do eggs boil? A recipe for soup. Roast the potatoes. Knead the dough. Which spice for fish?",
    "mechanic": "Change the tyre. The brakes squeal. Which oil for my engine? The car does not start. Fit new wipers. My clutch slips.",
    "gardener": "When do I prune roses? My tomatoes have spots. Sow the carrots. Mow the lawn. Which soil for lavender? Plant a hedge.",
    None: "Who won the election? Tell me a joke. What is the capital of Peru? Sing a song. How tall is Everest? Is it Monday?",
}


@pytest.mark.real
def test_a_released_head_routes_paraphrases(package_job: Opener) -> None:
    names = tuple(sorted(name for name in TALK if name))
    rows = [
        RouterRow(text=text, agent=name, source="t") for name, texts in TALK.items() for text in re.findall(r"[^.?]+[.?]", texts)
    ]
    recipe = RouterRecipe(agents=names, datasets=("talk",), l2=3e-4, out_of_scope_recall=0.8)
    job = package_job("train_jobs.router_head", recipe)
    bundle = job.artifacts.write_rows(rows)
    with job.catalog.transaction() as work:
        for name in names:
            agents.save(work, Agent(name=name))
        datasets.add(work, Dataset(digest=rows_digest(rows), name="talk", kind="router", rows=len(rows), uri=bundle.uri))
    done = router_head.train(job, recipe)
    with job.catalog.reading() as work:
        release = releases.get(work, done["release"])
    assert release.agent == ROUTER
    folder = job.artifacts.fetch(release.adapter_uri, release.adapter_digest)
    about = json.loads((folder / "head.json").read_text())
    head = np.load(folder / "head.npz")
    assert about["agents"] == list(names)
    assert head["weights"].shape == (4, 384)
    asked = {"cook": "Fry an onion", "mechanic": "The exhaust of my car is loud", "gardener": "Water the flower beds"}
    vectors = Embedder().embed(list(asked.values()))
    scores = router_head.softmax((vectors @ head["weights"].T + head["bias"]).astype(float) / about["temperature"])[:, :3]
    assert [names[index] for index in scores.argmax(axis=1)] == list(asked)
