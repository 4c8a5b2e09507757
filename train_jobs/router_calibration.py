"""How sure a router's head may be: temperature, scope and threshold, all chosen on scores of rows that the head had not seen.

The chance that a text is for anybody is a logistic regression on what its scores look like (``cluster.routing.scope_features``), "no
agent" and the agents weighing the same; temperature scaling is that of Guo et al., 2017 (arXiv:1706.04599). The figures are of the same
held-out rows that the few numbers were chosen on: they flatter a little.
"""

from typing import NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray

from cluster import routing
from cluster.routing import Floats
from train_jobs.router_fit import Flags, Labels, Scored

FREE = 0.005  # of in-scope accuracy that may be paid for recall beyond what was aimed at
UNREJECTED = 0.02  # share of in-scope texts that may be refused when there is nothing to set the threshold by


class Calibration(NamedTuple):
    """``picked`` (n,) is each held-out row's agent, or their number when it is refused; ``rows`` (n,) are those rows in the sample."""

    temperature: float
    scope: Floats
    threshold: float
    metrics: dict[str, float]
    picked: Labels
    rows: Labels


def calibrate(held: Scored, labels: Labels, agents: int, recall: float) -> Calibration:
    """Choose temperature, scope and threshold on held-out scores. ``labels`` (n,) are of the rows of ``held``.

    Of the thresholds that cost at most half a percent of in-scope accuracy the one with the best recall is taken; where that recall is
    below ``recall``, the one with the best accuracy among those that reach it. It lies in the middle of a plateau. Without out-of-scope
    rows it refuses 2 % of the others.
    """
    inside = labels < agents
    temperature = _temperature(held.scores[inside, :agents], labels[inside])
    features = routing.scope_features(held.scores, held.nearest, agents)
    alone = bool(inside.all())
    scope = _familiar(features[:, 0]) if alone else _regressed(features, inside)
    found = routing.probabilities(held.scores, held.nearest, agents, temperature, scope)
    sure, best = found.sum(axis=1), found.argmax(axis=1)
    right = best == labels
    threshold = 0.5 if alone else _threshold(sure, right, inside, recall)
    picked = np.where(sure >= threshold, best, agents)
    metrics = {
        "in_scope_accuracy": float((picked == labels)[inside].mean()),
        "calibration_error": calibration_error(found.max(axis=1)[inside], right[inside]),
        "rows": float(len(labels)),
    }
    if not alone:
        metrics["out_of_scope_recall"] = float((picked == agents)[~inside].mean())
    return Calibration(temperature, scope, threshold, metrics, picked, held.rows)


def _temperature(scores: Floats, labels: Labels) -> float:
    """The temperature under which the right classes are likeliest, from 0.02 to 50."""
    temperatures = np.exp(np.linspace(np.log(0.02), np.log(50.0), 60))
    raised = scores - scores.max(axis=1, keepdims=True)
    mine = raised[np.arange(len(labels)), labels]
    losses = [np.mean(np.log(np.exp(raised / t).sum(axis=1)) - mine / t) for t in temperatures]
    return float(temperatures[int(np.argmin(losses))])


def _familiar(best: Floats) -> Floats:
    """Without strangers to learn from: a half where 2 % of the best scores lie below, nearly 1 at the median."""
    edge, middle = np.quantile(best, [UNREJECTED, 0.5])
    steep = 4 / max(float(middle - edge), 1e-3)
    scope = np.zeros(routing.SCOPE_FEATURES + 1, dtype=np.float32)
    scope[0], scope[-1] = steep, -steep * edge
    return scope


def _regressed(features: Floats, inside: Flags) -> Floats:
    from sklearn.linear_model import LogisticRegression

    centre, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    model = LogisticRegression(class_weight="balanced", max_iter=1000).fit((features - centre) / spread, inside)
    weights = model.coef_[0] / spread
    return np.append(weights, model.intercept_[0] - weights @ centre).astype(np.float32)


def _threshold(sure: Floats, right: Flags, inside: Flags, recall: float) -> float:
    """Every useful threshold is tried: one between each two neighbouring values, in one pass over the sorted rows."""
    order = np.argsort(sure, kind="stable")
    values = sure[order].astype(np.float64)
    edges = np.flatnonzero(np.append(True, np.diff(values) > 0))  # how many rows lie below each candidate
    candidates = np.where(edges == 0, values[0] / 2, (values[edges] + values[edges - 1]) / 2)
    caught = np.append(0, np.cumsum(~inside[order]))[edges]
    kept = (right & inside).sum() - np.append(0, np.cumsum((right & inside)[order]))[edges]
    found, accuracy = caught / (~inside).sum(), kept / inside.sum()
    cheap = np.where(accuracy >= accuracy.max() - FREE, found + 1e-6 * accuracy, -1.0)
    enough = np.where(found >= recall - 1e-9, accuracy, found - 2.0)
    gain = cheap if found[int(np.argmax(cheap))] >= recall else enough
    first = int(np.argmax(gain))
    later = np.flatnonzero(gain[first:] < gain[first] - 1e-12)
    last = first + int(later[0]) - 1 if len(later) else len(gain) - 1
    return float((candidates[first] + candidates[last]) / 2)


def calibration_error(confidence: Floats, right: Flags, bins: int = 10) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over equally wide bins."""
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[which == b].mean() - right[which == b].mean()) * (which == b).mean() for b in np.unique(which)]
    return float(sum(gaps))


def confusion(labels: Labels, picked: Labels, names: Sequence[str]) -> NDArray[np.int64]:
    """How often a text of each class (rows, the last one "no agent") was given to each (columns)."""
    size = len(names) + 1
    return np.bincount(labels * size + picked, minlength=size * size).reshape(size, size)


def by_agent(table: NDArray[np.int64], names: Sequence[str]) -> dict[str, float]:
    """``precision.NAME`` and ``recall.NAME`` for every agent; precision is left out for an agent that was never picked, recall for one
    with no held-out text."""
    found: dict[str, float] = {}
    for index, name in enumerate(names):
        asked, given = int(table[index].sum()), int(table[:, index].sum())
        if asked:
            found[f"recall.{name}"] = float(table[index, index] / asked)
        if given:
            found[f"precision.{name}"] = float(table[index, index] / given)
    return found
