"""The router head: classes, out of scope, calibration, its gate, and the released bundle."""

import re
from pathlib import Path
from typing import Callable

import numpy as np
import pytest

from cluster import routing
from cluster.catalog import agents, datasets, questions, releases
from cluster.domain.agents import ROUTER, Agent
from cluster.domain.base import Frozen
from cluster.domain.datasets import Dataset, RouterRow, rows_digest
from cluster.domain.questions import Question, QuestionSet
from cluster.domain.recipes import RouterRecipe
from cluster.embedding import Embedder
from cluster.errors import InvalidInput
from cluster.job_run import JobRun
from train_jobs import router_calibration, router_fit, router_gate, router_head, router_report
from train_jobs.router_head import Trained

Opener = Callable[[str, Frozen], JobRun]
RECIPE = RouterRecipe(rows="x")
NAMES = ("a", "b", "c")


def clouds(per_class: int, classes: int, spread: float, seed: int = 0) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Unit vectors around ``classes`` orthogonal centres, each with a text that says nothing of its class."""
    pick = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    points = np.eye(16)[labels] + spread * pick.normal(size=(len(labels), 16))
    texts = [f"text{seed}x{number}" for number in range(len(labels))]
    return texts, (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32), labels


def taught(per_class: int, classes: int, spread: float, names: tuple[str, ...] = NAMES, seed: int = 0) -> Trained:
    texts, vectors, labels = clouds(per_class, classes, spread, seed)
    return router_head.teach(names, texts, vectors, labels, RECIPE, "e@1")


def test_agents_and_strangers_are_told_apart_on_unseen_points() -> None:
    made = taught(40, 4, 0.15)  # the last class is "no agent"
    texts, vectors, truth = clouds(100, 4, 0.15, seed=1)
    picked = router_gate.decisions(made.head, texts, vectors)
    right = np.array([one == (*NAMES, "")[label] for one, label in zip(picked, truth, strict=True)])
    assert right[truth < 3].mean() > 0.95
    assert right[truth == 3].mean() > 0.95
    assert made.metrics["out_of_scope_recall"] >= 0.9
    assert made.metrics["calibration_error"] < 0.1
    assert made.metrics["recall.a"] > 0.9 < made.metrics["precision.c"]
    assert made.confusion.sum() == 160


def test_words_tell_apart_what_the_embedding_cannot() -> None:
    pick = np.random.default_rng(3)
    vectors = np.tile(np.eye(16, dtype=np.float32)[0], (40, 1))
    texts = [f"please {'refund' if number % 2 else 'shipping'} {pick.integers(1000)}" for number in range(40)]
    made = router_head.teach(("shop", "mail"), texts, vectors, np.arange(40) % 2, RECIPE, "e@1")
    assert made.metrics["in_scope_accuracy"] > 0.9
    scores = routing.agent_scores(made.head, vectors[0], "a refund of REFUNDED goods")
    assert scores[1] > scores[0]


def test_without_strangers_the_threshold_refuses_few() -> None:
    made = taught(50, 3, 0.3)
    assert 0.9 < made.metrics["in_scope_accuracy"] <= 1.0
    assert "out_of_scope_recall" not in made.metrics
    assert routing.agent_scores(made.head, -np.ones(16, dtype=np.float32) / 4, "far").sum() < made.head.threshold


def test_temperature_makes_confidence_honest() -> None:
    texts, vectors, labels = clouds(80, 3, 0.5)
    held = router_fit.held_out(router_fit.sample_of(texts, vectors, labels, 3), RECIPE)
    honest = router_calibration.calibrate(held, labels, 3, 0.9)
    boastful = router_calibration.calibrate(held._replace(scores=held.scores * 4), labels, 3, 0.9)
    assert boastful.temperature == pytest.approx(4 * honest.temperature, rel=0.2)


def test_the_threshold_takes_cheap_recall_and_pays_no_more_than_the_aim() -> None:
    inside = np.array([False] * 10 + [True] * 990)
    sure = np.concatenate([np.linspace(0.1, 0.5, 10), np.linspace(0.4, 1.0, 990)])
    threshold = router_calibration._threshold(sure, inside.copy(), inside, 0.2)
    assert (sure[:10] < threshold).sum() == 7  # the eighth would cost more than half a percent of the 990
    dear = router_calibration._threshold(sure, inside.copy(), inside, 0.9)
    assert (sure[:10] < dear).sum() == 9


def test_many_rows_are_fitted_in_blocks_on_centres_and_agree_with_the_few(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, vectors, labels = clouds(60, 3, 0.2)
    monkeypatch.setattr(router_fit, "LANDMARKS", 24)
    monkeypatch.setattr(router_fit, "BLOCK", 50)
    sample = router_fit.sample_of(texts, vectors, labels, 3)
    few = router_fit.fit(sample, RECIPE)
    assert few.landmarks.shape == (24, 16)
    before = router_fit.scores(few, sample, RECIPE.sharpness)[0].argmax(axis=1)
    monkeypatch.setattr(router_fit, "BUCKETS", 64)  # fewer features than rows: solved in the features' space
    monkeypatch.setattr(routing, "BUCKETS", 64)
    many = router_fit.fit(sample, RECIPE)
    assert (router_fit.scores(many, sample, RECIPE.sharpness)[0].argmax(axis=1) == before).mean() > 0.97


def test_the_only_example_of_an_agent_is_learnt_and_never_held_out() -> None:
    texts, vectors, labels = clouds(5, 3, 0.1)
    made = router_head.teach(NAMES, texts[:-4], vectors[:-4], labels[:-4], RECIPE, "e@1")
    assert "recall.c" not in made.metrics
    assert NAMES[routing.agent_scores(made.head, vectors[-1], texts[-1]).argmax()] == "c"
    with pytest.raises(InvalidInput, match="single routing example"):
        router_head.teach(NAMES, texts[::5], vectors[::5], labels[::5], RECIPE, "e@1")


def test_the_served_head_scores_as_the_trained_one(tmp_path: Path) -> None:
    made = taught(20, 4, 0.3)
    routing.save(tmp_path, made.head, made.metrics)
    served = routing.load(tmp_path, "router@0.1.0")
    texts, vectors, labels = clouds(10, 4, 0.3, seed=5)
    texts = [f"{text} text0x{number} Größe 🦔" for number, text in enumerate(texts)]
    many = router_fit.scores(made.head.arrays, router_fit.sample_of(texts, vectors, labels, 3), RECIPE.sharpness)
    at_once = routing.probabilities(*many, 3, made.head.temperature, made.head.arrays.scope)
    for text, vector, expected in zip(texts, vectors, at_once, strict=True):
        assert routing.agent_scores(made.head, vector, text) == pytest.approx(expected, abs=1e-5)
        assert routing.agent_scores(served, vector, text) == pytest.approx(expected, abs=1e-5)
    assert served.threshold == made.head.threshold


@pytest.mark.parametrize("text", ["", " \t\n", "!", "\ud800", "x" * 100_000, "word " * 20_000], ids=range(6))
def test_any_text_has_scores(text: str) -> None:
    scores = routing.agent_scores(taught(10, 4, 0.2).head, np.eye(16, dtype=np.float32)[0], text)
    assert np.isfinite(scores).all()
    assert 0 <= scores.sum() <= 1 + 1e-6


def test_texts_come_from_cards_and_rows_and_the_later_judgement_wins() -> None:
    cards = [Agent(name="a", description="About a.", examples=("one", "two")), Agent(name="b", examples=("three",))]
    rows = [
        RouterRow(text="two", agent="b", source="signal"),
        RouterRow(text="four", agent=None, source="s"),
        RouterRow(text="five", agent="gone", source="s"),
        RouterRow(text=" ", agent="a", source="s"),
        RouterRow(text=" four ", agent=None, source="s"),
    ]
    texts, labels, dropped = router_head.collect(cards, rows)
    assert dict(zip(texts, labels.tolist(), strict=True)) == {"About a.": 0, "one": 0, "two": 1, "three": 1, "four": 2}
    assert dropped == {"for 'gone', which is not routed to": 1, "without text": 1}
    with pytest.raises(InvalidInput, match="Agent 'c' has no routing examples"):
        router_head.collect([*cards, Agent(name="c")], rows)


def contender(made: Trained, folder: Path) -> router_gate.Contender:
    """The head as its bundle gives it."""
    folder.mkdir()
    routing.save(folder, made.head, made.metrics)
    router_gate.save_held(folder, made.texts, made.calibration.rows, made.calibration.picked)
    return router_gate.read_contender(folder, "router@0.1.0")


def judged(made: Trained) -> router_gate.Judged:
    names = (*made.head.agents, "")
    return router_gate.Judged("rows", made.texts, made.vectors, [names[label] for label in made.labels])


def test_a_head_with_one_agent_spoilt_is_kept_by_name_and_an_equal_one_promoted(tmp_path: Path) -> None:
    good = taught(40, 4, 0.25)
    spoilt = good.labels.copy()
    spoilt[:40:2] = 1  # half of a's texts are said to be b's
    bad = router_head.teach(NAMES, good.texts, good.vectors, spoilt, RECIPE, "e@1")
    champion, challenger = contender(good, tmp_path / "good"), contender(bad, tmp_path / "bad")
    asked = clouds(20, 4, 0.25, seed=9)
    fresh = router_gate.Judged("questions", asked[0], asked[1], [(*NAMES, "")[label] for label in asked[2]])
    equal = router_gate.decide([router_gate.compare_rows(champion, champion, judged(good))], 0.02)
    assert (equal.verdict, equal.comparisons[0].interval) == ("promote", (0.0, 0.0))
    worse = router_gate.decide([router_gate.compare_rows(champion, challenger, judged(good))], 0.02)
    assert worse.verdict == "keep"
    assert "surely worse for a" in worse.reasons[0]
    on_questions = router_gate.compare_questions(champion, challenger, fresh)
    assert (on_questions.n, on_questions.left_out) == (80, 0)
    assert on_questions.challenger_rate < on_questions.champion_rate


def test_what_a_head_has_trained_on_is_not_its_exam(tmp_path: Path) -> None:
    old = taught(20, 4, 0.9)  # so noisy that what is learnt by heart differs from what is known
    champion = contender(old, tmp_path / "old")
    own = router_gate.compare_rows(champion, champion, judged(old))
    picked = router_gate.decisions(old.head, old.texts, old.vectors)
    by_heart = np.mean([one == two for one, two in zip(picked, judged(old).right, strict=True)])
    held = router_calibration.confusion(old.labels[old.calibration.rows], old.calibration.picked, NAMES)
    assert own.champion_rate == pytest.approx(np.trace(held) / held.sum())
    assert by_heart > own.champion_rate + 0.1
    leaked = router_gate.compare_questions(champion, champion, judged(old)._replace(texts=[f" {text} " for text in old.texts]))
    assert leaked is None


def test_the_confusion_matrix_is_a_picture_and_names_its_worst(tmp_path: Path) -> None:
    matrix = np.array([[5, 2, 0], [0, 7, 0], [1, 0, 3]])
    router_report.draw(matrix, ["a", "b"], tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    told = router_report.table(matrix, ["a", "b"])
    assert told["worst"][0] == {"right": "a", "given": "b", "texts": 2}
    assert router_calibration.by_agent(matrix, ["a", "b"])["precision.b"] == pytest.approx(7 / 9)


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
    recipe = RouterRecipe(agents=names, datasets=("talk",), out_of_scope_recall=0.8)
    job = package_job("train_jobs.router_head", recipe)
    bundle = job.artifacts.write_rows(rows)
    asked = {"cook": "Fry an onion", "mechanic": "The exhaust of my car is loud", "gardener": "Water the flower beds"}
    exam = [Question(id=name, text=text, kind="route", expected=name) for name, text in asked.items()]
    with job.catalog.transaction() as work:
        for name in names:
            agents.save(work, Agent(name=name))
        datasets.add(work, Dataset(digest=rows_digest(rows), name="talk", kind="router", rows=len(rows), uri=bundle.uri))
        questions.save_set(work, QuestionSet(name="talk-routing", purpose="routing", questions=tuple(exam)))
    done = router_head.train(job, recipe)
    assert (done["verdict"], done["reasons"]) == ("promote", ["It is the first head."])
    with job.catalog.reading() as work:
        release = releases.get(work, done["release"])
    assert release.agent == ROUTER
    head = routing.load(job.artifacts.fetch(release.adapter_uri, release.adapter_digest), release.ref)
    assert head.agents == names
    vectors = Embedder().embed(list(asked.values()))
    scores = [routing.agent_scores(head, vector, text) for vector, text in zip(vectors, asked.values(), strict=True)]
    assert [names[one.argmax()] for one in scores] == list(asked)
    logged = {file.path for file in job.registry.client.list_artifacts(release.mlflow_run_id)}
    assert {"confusion.png", "confusion.json", "verdict.json"} <= logged
    assert "recall.cook" in release.metrics
    job.registry.promote(release.ref)
    again = router_head.train(job, recipe)
    assert (again["release"], again["verdict"]) == (release.ref, "keep")
    assert "nothing changed" in again["reasons"][0]
    wider = router_head.train(job, recipe.model_copy(update={"l2": 0.3}))
    assert (wider["champion"], wider["verdict"]) == (release.ref, "promote")
    assert [one["name"] for one in wider["comparisons"]] == ["its texts, held out", "question set 'talk-routing'"]
