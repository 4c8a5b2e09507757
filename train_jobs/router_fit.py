"""The arithmetic of the router's head: kernel ridge regression on landmarks and hashed n-grams and held-out scores.

Scores are fitted by least squares to +1 (the text's class) and -1 (every other), classes weighing the same however many rows they have.
The kernel's part is projected on landmarks (Williams and Seeger, Using the Nyström Method to Speed Up Kernel Machines, NIPS 2000): the
texts themselves while they are few, k-means centres of every class when they are many (Zhang et al., Improved Nyström Low-Rank
Approximation, ICML 2008). Time and memory grow linearly with the rows.
"""

from typing import NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray

from cluster import routing
from cluster.domain.recipes import RouterRecipe
from cluster.errors import InvalidInput
from cluster.routing import BUCKETS, Floats, Grams, HeadArrays, Lexicon

Labels = NDArray[np.int64]
Flags = NDArray[np.bool_]
LANDMARKS = 1536  # over all classes
LANDMARK_ROWS = 4096  # of a class that are looked at for its centres
BLOCK = 8192  # rows whose features are in memory at once
_ONCE_BELOW = 1000  # texts; with fewer, an n-gram counts though it is in one of them alone


class Sample(NamedTuple):
    """Texts as the head sees them: ``vectors`` (n, d), n-grams by text, ``labels`` (n,); the label ``agents`` is "no agent"."""

    vectors: Floats
    grams: list[tuple[Grams, ...]]
    labels: Labels
    agents: int

    @property
    def classes(self) -> int:
        """The agents, and one more where there are texts for none of them."""
        return self.agents + bool((self.labels == self.agents).any())

    def take(self, rows: NDArray[np.int64]) -> "Sample":
        """Some of the texts."""
        return Sample(self.vectors[rows], [self.grams[row] for row in rows], self.labels[rows], self.agents)


class Scored(NamedTuple):
    """Held-out ``scores`` (n, classes) and ``nearest`` (n,) of the rows that were held out: ``rows`` (n,) into the sample."""

    scores: Floats
    nearest: Floats
    rows: NDArray[np.int64]


class _Basis(NamedTuple):
    landmarks: Floats
    owned: int
    whitening: Floats
    lexicons: tuple[Lexicon, ...]


def sample_of(texts: Sequence[str], vectors: Floats, labels: Labels, agents: int) -> Sample:
    """Texts (n,) with their unit vectors (n, d) and labels (n,)."""
    return Sample(np.asarray(vectors, dtype=np.float32), [routing.grams_of(text) for text in texts], labels, agents)


def fit(sample: Sample, recipe: RouterRecipe) -> HeadArrays:
    """The head over the sample's classes; its scope says nothing yet (``calibrate`` finds it)."""
    basis = _basis(sample, recipe)
    weights = _solved(sample, basis, recipe)
    near, words = len(basis.whitening[0]), np.sqrt(np.float32(recipe.lexical))
    return HeadArrays(
        landmarks=basis.landmarks,
        near=np.asarray(basis.whitening @ weights[:near], dtype=np.float32),
        words=_rounded(words * weights[near:-1]),
        bias=weights[-1].astype(np.float32),
        lexicons=basis.lexicons,
        scope=np.zeros(routing.SCOPE_FEATURES + 1, dtype=np.float32),
        owned=basis.owned,
    )


def scores(arrays: HeadArrays, sample: Sample, sharpness: float) -> tuple[Floats, Floats]:
    """Scores (n, classes) and the nearest landmark of an agent (n,): what ``routing.raw_scores`` gives, for many texts."""
    found, nearest = [], []
    for start in range(0, len(sample.vectors), BLOCK):
        close = sample.vectors[start : start + BLOCK] @ arrays.landmarks.T
        words = _words(sample.grams[start : start + BLOCK], arrays.lexicons) @ arrays.words
        found.append(np.exp(sharpness * (close - 1)) @ arrays.near + words + arrays.bias)
        nearest.append(close[:, : arrays.owned].max(axis=1))
    return np.concatenate(found), np.concatenate(nearest)


def held_out(sample: Sample, recipe: RouterRecipe) -> Scored:
    """Scores of every row from a head that has not seen it; a fold holds about ``recipe.holdout`` of each class.

    The only row of a class is never held out: it would be judged by a head that does not know its class. Raises InvalidInput when every
    class has but one.
    """
    fold = folds(sample.labels, recipe)
    if (fold < 0).all():
        raise InvalidInput("Every agent has a single routing example, so none can be held out; give at least one agent two.")
    parts: list[Scored] = []
    for number in range(int(fold.max()) + 1):
        held, seen = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        arrays = fit(sample.take(seen), recipe)
        parts.append(Scored(*scores(arrays, sample.take(held), recipe.sharpness), held))
    order = np.argsort(np.concatenate([part.rows for part in parts]))
    joined = [np.concatenate(values)[order] for values in zip(*parts, strict=True)]
    return Scored(joined[0], joined[1], joined[2])


def folds(labels: Labels, recipe: RouterRecipe) -> NDArray[np.int64]:
    """Each row's fold (n,), every class spread over the folds; -1 for the only row of a class."""
    count = max(2, round(1 / recipe.holdout))
    pick = np.random.default_rng(recipe.seed)
    fold = np.full(len(labels), -1, dtype=np.int64)
    for label in np.unique(labels):
        rows = pick.permutation(np.flatnonzero(labels == label))
        if len(rows) > 1:
            fold[rows] = (np.arange(len(rows)) + pick.integers(count)) % count
    _, renumbered = np.unique(fold[fold >= 0], return_inverse=True)
    fold[fold >= 0] = renumbered
    return fold


def _basis(sample: Sample, recipe: RouterRecipe) -> _Basis:
    quota, pick = max(1, LANDMARKS // sample.classes), np.random.default_rng(recipe.seed)
    centres = [_centres(sample.vectors[sample.labels == label], quota, pick) for label in range(sample.classes)]
    landmarks, owned = _rounded(np.concatenate(centres)), sum(len(one) for one in centres[: sample.agents])
    values, vectors = np.linalg.eigh(np.exp(recipe.sharpness * (landmarks @ landmarks.T - 1)).astype(np.float64))
    kept = values > 1e-4
    whitening = (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32)
    return _Basis(landmarks, owned, whitening, tuple(_lexicon(sample.grams, family) for family in range(routing.FAMILIES)))


def _centres(points: Floats, count: int, pick: np.random.Generator) -> Floats:
    """The points themselves, or ``count`` centres of them by Lloyd's k-means from random ones."""
    if len(points) <= count:
        return points
    points = points[pick.permutation(len(points))[:LANDMARK_ROWS]]
    centres = points[:count].copy()
    for _ in range(10):
        nearest = (points @ centres.T - (centres * centres).sum(axis=1) / 2).argmax(axis=1)
        held = np.bincount(nearest, minlength=count)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, points)
        centres = np.where(held[:, None] > 0, sums / np.maximum(held, 1)[:, None], centres).astype(np.float32)
    return centres


def _lexicon(grams: Sequence[tuple[Grams, ...]], family: int) -> Lexicon:
    """Inverse document frequency ln((1 + n) / (1 + texts with it)) + 1."""
    keys, texts = np.unique(np.concatenate([held[family].keys for held in grams]), return_counts=True)
    kept = texts >= (1 if len(grams) < _ONCE_BELOW else 2)
    return Lexicon(keys[kept], _rounded(np.log((1 + len(grams)) / (1 + texts[kept])) + 1))


def _words(grams: Sequence[tuple[Grams, ...]], lexicons: Sequence[Lexicon]) -> Floats:
    made = np.zeros((len(grams), BUCKETS), dtype=np.float32)
    for row, held in enumerate(grams):
        seen = routing.lexical(held, lexicons)
        made[row] = np.bincount(seen.columns, seen.weights, minlength=BUCKETS)
    return made


def _rounded(values: NDArray[np.floating]) -> Floats:
    """As the bundle keeps them."""
    return np.asarray(values, dtype=np.float16).astype(np.float32)


def _features(sample: Sample, basis: _Basis, recipe: RouterRecipe) -> Floats:
    near = np.exp(recipe.sharpness * (sample.vectors @ basis.landmarks.T - 1)) @ basis.whitening
    words = np.sqrt(np.float32(recipe.lexical)) * _words(sample.grams, basis.lexicons)
    return np.hstack([near, words, np.ones((len(near), 1), dtype=np.float32)])


def _solved(sample: Sample, basis: _Basis, recipe: RouterRecipe) -> Floats:
    """Ridge regression (features, classes): in the rows' space while they are fewer than features, else in the features'."""
    rows, classes = len(sample.labels), sample.classes
    counts = np.bincount(sample.labels, minlength=classes)
    weight = np.sqrt(rows / (np.count_nonzero(counts) * np.maximum(counts, 1)))[sample.labels].astype(np.float32)[:, None]
    target = weight * (2 * np.eye(classes, dtype=np.float32)[sample.labels] - 1)
    size = basis.whitening.shape[1] + BUCKETS + 1
    if rows <= size:
        made = weight * _features(sample, basis, recipe)
        return np.asarray(made.T @ _ridge(made @ made.T, target, recipe.l2), dtype=np.float32)
    gram, right = np.zeros((size, size), dtype=np.float32), np.zeros((size, classes), dtype=np.float32)
    for start in range(0, rows, BLOCK):
        block = slice(start, start + BLOCK)
        part = sample.take(np.arange(rows)[block])
        made = weight[block] * _features(part, basis, recipe)
        gram += made.T @ made
        right += made.T @ target[block]
    return _ridge(gram, right, recipe.l2).astype(np.float32)


def _ridge(matrix: Floats, right: Floats, l2: float) -> NDArray[np.float64]:
    from scipy.linalg import solve

    matrix = matrix.astype(np.float64)
    matrix[np.diag_indices(len(matrix))] += max(l2, 1e-6)
    return np.asarray(solve(matrix, right.astype(np.float64), assume_a="pos", overwrite_a=True, check_finite=False))
