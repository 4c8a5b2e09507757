"""The router's head: which agent a text is for, or none. `python -m train_jobs.router_head --recipe configs/train/router.yaml`

A multinomial logistic regression on sentence embeddings: ``softmax((W x + b) / T)``, out of scope when no agent's score reaches the
threshold. Where there are texts for no agent, they are a last class of their own, which takes its share of the probability and is never
picked. Temperature (Guo et al., 2017, arXiv:1706.04599) and threshold are chosen on scores that each row got from a head that had not
seen it (cross-validation); the released head is trained on all rows.

Knows nothing of word order beyond what the embedder keeps, and nothing of conversations: it sees one text.
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray

from cluster import job_run
from cluster.artifacts import file_digest
from cluster.catalog import agents, releases
from cluster.domain.agents import ROUTER, Agent
from cluster.domain.datasets import Dataset, RouterRow
from cluster.domain.recipes import RouterRecipe
from cluster.domain.releases import CHAMPION
from cluster.embedding import Embedder, model_directory
from cluster.errors import InvalidInput
from cluster.job_run import JobRun
from train_jobs.training import inputs

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Flags = NDArray[np.bool_]
_UNREJECTED = 0.02  # share of in-scope texts that may be refused when there is nothing to set the threshold by


class Head(NamedTuple):
    """``weights`` (rows, dimension) and ``bias`` (rows,): one row per agent, and a last one for "no agent" if it was taught."""

    weights: Floats
    bias: Floats


class Calibration(NamedTuple):
    """Temperature and threshold, with what they achieve on held-out rows."""

    temperature: float
    threshold: float
    metrics: dict[str, float]


def softmax(logits: Floats) -> Floats:
    """Row by row, without overflow."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _regression(rows: int, l2: float) -> "LogisticRegression":
    """``l2`` is per row: a recipe means the same for few and many. Classes weigh the same however many rows they have."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=1.0 / (max(l2, 1e-8) * rows), class_weight="balanced", max_iter=2000)


def fit(vectors: Floats, labels: Labels, l2: float) -> Head:
    """The regularised head over the classes in ``labels``, in their order."""
    model = _regression(len(labels), l2).fit(vectors, labels)
    if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes: their difference
        return Head(np.vstack([-model.coef_, model.coef_]) / 2, np.concatenate([-model.intercept_, model.intercept_]) / 2)
    return Head(model.coef_, model.intercept_)


def logits(head: Head, vectors: Floats) -> Floats:
    """Shape (texts, rows of the head)."""
    return np.asarray(vectors @ head.weights.T + head.bias)


def held_out_logits(vectors: Floats, labels: Labels, recipe: RouterRecipe) -> Floats:
    """Logits of every row from a head that has not seen it; a fold holds about ``recipe.holdout`` of each class.

    Raises InvalidInput when a class has fewer rows than it takes to hold one out.
    """
    from sklearn.model_selection import StratifiedKFold

    folds = min(max(2, round(1 / recipe.holdout)), int(np.bincount(labels).min()))
    if folds < 2:
        raise InvalidInput("An agent has a single routing example; give every agent at least two, so that one can be held out.")
    found = np.zeros((len(labels), int(labels.max()) + 1))
    for seen, held in StratifiedKFold(folds, shuffle=True, random_state=recipe.seed).split(vectors, labels):
        found[held] = logits(fit(vectors[seen], labels[seen], recipe.l2), vectors[held])
    return found


def calibrate(held: Floats, labels: Labels, agents_: int, recall: float) -> Calibration:
    """Choose temperature and threshold on held-out logits.

    The threshold maximises in-scope accuracy plus out-of-scope recall among those that reach ``recall``, or among all when none does; in
    the middle of a plateau. Without out-of-scope rows it refuses 2 % of the in-scope ones.
    """
    inside = labels < agents_
    temperatures = np.exp(np.linspace(np.log(0.02), np.log(50.0), 200))
    rows = np.arange(len(labels))
    losses = [-np.log(softmax(held / t)[rows, labels] + 1e-12).mean() for t in temperatures]
    temperature = float(temperatures[int(np.argmin(losses))])
    scores = softmax(held / temperature)[:, :agents_]
    highest, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    alone = bool(inside.all())
    threshold = float(np.quantile(highest, _UNREJECTED)) if alone else _threshold(highest, right, inside, recall)
    metrics = {
        "in_scope_accuracy": float((right & (highest >= threshold))[inside].mean()),
        "calibration_error": _calibration_error(highest[inside], right[inside]),
        "rows": float(len(labels)),
    }
    if not alone:
        metrics["out_of_scope_recall"] = float((highest[~inside] < threshold).mean())
    return Calibration(temperature, threshold, metrics)


def _threshold(highest: Floats, right: Flags, inside: Flags, recall: float) -> float:
    edges = np.unique(highest)
    candidates = np.concatenate([[edges[0] / 2], (edges[:-1] + edges[1:]) / 2])
    caught = np.array([(highest[~inside] < t).mean() for t in candidates])
    accuracy = np.array([(right & (highest >= t))[inside].mean() for t in candidates])
    gain = accuracy + caught
    if (caught >= recall).any():
        gain[caught < recall] = -1.0
    best = np.flatnonzero(gain >= gain.max() - 1e-12)
    return float((candidates[best[0]] + candidates[best[-1]]) / 2)


def _calibration_error(confidence: Floats, right: Flags, bins: int = 10) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over equally wide bins."""
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[which == b].mean() - right[which == b].mean()) * (which == b).mean() for b in np.unique(which)]
    return float(sum(gaps))


def collect(cards: Sequence[Agent], rows: Sequence[RouterRow]) -> tuple[list[str], Labels, dict[str, int]]:
    """Texts and their labels (index into ``cards``; their number for "no agent"), and what was dropped, by reason.

    A text given twice counts once; the later judgement wins. Raises InvalidInput when an agent has no text at all.
    """
    number = {card.name: index for index, card in enumerate(cards)}
    found: dict[str, int] = {}
    dropped: Counter[str] = Counter()
    for card in cards:
        for text in (card.description, *card.examples):
            if text.strip():
                found[" ".join(text.split())] = number[card.name]
    for row in rows:
        text = " ".join(row.text.split())
        if row.agent is not None and row.agent not in number:
            dropped[f"for '{row.agent}', which is not routed to"] += 1
            continue
        found[text] = len(cards) if row.agent is None else number[row.agent]
    labels = np.array(list(found.values()), dtype=np.int64)
    for card in cards:
        if not (labels == number[card.name]).any():
            raise InvalidInput(f"Agent '{card.name}' has no routing examples; add 'examples' to its card, or router rows.")
    return list(found), labels, dict(dropped)


def train(job: JobRun, recipe: RouterRecipe) -> dict[str, Any]:
    """The job's body."""
    cards, sources = _look_up(job, recipe)
    rows = [row for one in sources for row in job.artifacts.read_rows(one.uri) if isinstance(row, RouterRow)]
    texts, labels, dropped = collect(cards, rows)
    job.progress(0.1, f"embedding {len(texts)} texts")
    name = job.settings.models.embedder.location
    embedder = Embedder(name)
    vectors = embedder.embed(texts).astype(np.float64)
    job.progress(0.5, "training")
    held = held_out_logits(vectors, labels, recipe)
    calibration = calibrate(held, labels, len(cards), recipe.out_of_scope_recall)
    head = fit(vectors, labels, recipe.l2)
    job.progress(0.8, "registering the release", **calibration.metrics)
    return {"dropped": dropped, **_register(job, recipe, cards, sources, head, calibration, embedder.name)}


def _look_up(job: JobRun, recipe: RouterRecipe) -> tuple[list[Agent], tuple[Dataset, ...]]:
    with job.catalog.reading() as work:
        cards = [agents.get(work, name) for name in recipe.agents] or [card for card in agents.everyone(work) if card.visible]
    if len(cards) < 2:
        raise InvalidInput(f"A router needs at least two agents, and there is {len(cards)}; treadle agents create makes one.")
    named = bool(recipe.datasets or recipe.rows)
    return sorted(cards, key=lambda card: card.name), inputs(job, ROUTER, "router", recipe.datasets, recipe.rows) if named else ()


def _register(
    job: JobRun,
    recipe: RouterRecipe,
    cards: Sequence[Agent],
    sources: Sequence[Dataset],
    head: Head,
    calibration: Calibration,
    embedder: str,
) -> dict[str, Any]:
    params = recipe.model_dump(mode="json")
    parent = _champion(job)
    with tempfile.TemporaryDirectory(prefix="treadle-router-") as scratch:
        save(Path(scratch), head, calibration, [card.name for card in cards], embedder)
        opened = job.registry.start_run(ROUTER, job.run.id, params, sources, parent)
        job.registry.log_metrics(opened, calibration.metrics)
        location = job.settings.models.embedder.location
        release = job.registry.register(
            Agent(name=ROUTER, display_name="Router", description="Picks the agent for a text."),
            Path(scratch),
            base_model=job.settings.models.embedder.name,
            base_digest=file_digest(model_directory(location) / "model.safetensors"),
            inputs=[one.digest for one in sources],
            recipe=params,
            parent=parent,
            run_id=job.run.id,
            mlflow_run_id=opened,
            metrics=calibration.metrics,
        )
        job.registry.finish_run(opened)
    return {"release": release.ref, "metrics": calibration.metrics, "threshold": calibration.threshold}


def _champion(job: JobRun) -> str | None:
    with job.catalog.reading() as work:
        version = releases.alias(work, ROUTER, CHAMPION)
    return f"{ROUTER}@{version}" if version else None


def save(directory: Path, head: Head, calibration: Calibration, names: Sequence[str], embedder: str) -> None:
    """Write ``head.npz`` (float32 ``weights``, ``bias``) and ``head.json``; a row more than agents is "no agent"."""
    np.savez(directory / "head.npz", weights=head.weights.astype(np.float32), bias=head.bias.astype(np.float32))
    about = {
        "agents": list(names),
        "threshold": calibration.threshold,
        "temperature": calibration.temperature,
        "embedder": embedder,
        "metrics": calibration.metrics,
    }
    (directory / "head.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; the result is one line of JSON on stdout."""
    return job_run.main("train_jobs.router_head", RouterRecipe, train, argv)


if __name__ == "__main__":
    sys.exit(main())
