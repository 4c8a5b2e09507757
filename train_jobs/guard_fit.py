"""How the guard's classifier is fitted: logistic regression on the features of ``cluster.guarding``, thresholds on held-out scores.

Questions are learnt whole; ordinary ones also in windows, since a window of a long honest text must not look like an attack. Of an
attacked passage nobody says which sentence was planted: sentences that no clean passage holds are candidates, and after a first fit
the most likely one of each passage stays (multiple-instance learning: Andrews et al., 2002). Requests planted into clean passages are
added, and the first fit knows these alone: what does not belong into a document is above all what asks for something, and a sentence
of a document that is only seen attacked must not be taken for the attack.
"""

import random
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray

from cluster.domain.datasets import GuardRow
from cluster.domain.recipes import GuardRecipe
from cluster.errors import InvalidInput
from cluster.guarding import classifier, features, pieces
from cluster.guarding.bank import Bank
from cluster.guarding.classifier import Classifier, HeadArrays
from cluster.guarding.features import BUCKETS, FAMILIES, Floats
from cluster.guarding.plain import readings

FEWEST = 10
"""Attacks, and ordinary texts, below which a head is not fitted: its thresholds would mean nothing."""


class Example(NamedTuple):
    """A text as a head sees it: its ``rows`` and their ``dense`` features; ``label`` as in the dataset."""

    rows: list[str]
    dense: Floats
    label: str

    @property
    def attack(self) -> bool:
        return self.label == "attack"


class Fitted(NamedTuple):
    """A classifier with its held-out figures, by name."""

    classifier: Classifier
    metrics: dict[str, float]


Training = Callable[[Sequence[Example]], tuple[list[str], Floats, list[bool]]]
"""Which rows of some examples are learnt, with their dense features and whether they are attacks."""


def fit(rows: Sequence[GuardRow], bank: Bank, recipe: GuardRecipe) -> Fitted:
    """Both heads, or the one that there are rows for. Raises InvalidInput when there are too few for either."""
    kinds = tuple(bank.kinds)
    heads, metrics = {}, {}
    asked = [_question(row, bank, kinds) for row in rows if row.place == "input"]
    held = [_passage(row) for row in rows if row.place == "passages"]
    requests = [row.text for row in rows if row.place == "input" and row.label != "attack" and len(row.text) < pieces.LONGEST]
    for place, examples, learnt in (("input", asked, _whole), ("passages", held, _Planted(requests, recipe))):
        if min(sum(one.attack for one in examples), sum(one.label == "ordinary" for one in examples)) < FEWEST:
            continue
        heads[place], figures = _head(examples, learnt, recipe)
        metrics |= {f"{place}.{name}": value for name, value in figures.items()}
    if not heads:
        raise InvalidInput(f"A guard needs {FEWEST} attacks and {FEWEST} ordinary texts of one place at least; add rows.")
    return Fitted(Classifier(heads, kinds), metrics)


def _question(row: GuardRow, bank: Bank, kinds: Sequence[str]) -> Example:
    told = readings(row.text)
    rows, dense = classifier.question(told[0], bank.hits(told, "input"), kinds)
    return Example(rows, dense, row.label)


def _passage(row: GuardRow) -> Example:
    rows, dense = classifier.passage(readings(row.text)[0])
    return Example(rows, dense, row.label)


def _whole(examples: Sequence[Example]) -> tuple[list[str], Floats, list[bool]]:
    rows: list[str] = []
    dense, attack = [], []
    for one in examples:
        count = 1 if one.attack else len(one.rows)
        rows += one.rows[:count]
        dense.append(one.dense[:count])
        attack += [one.attack] * count
    return rows, np.concatenate(dense), attack


class _Planted:
    """The rows of passages to learn: all of clean ones, and the planted sentence of each attacked one."""

    def __init__(self, requests: Sequence[str], recipe: GuardRecipe) -> None:
        self._requests, self._recipe = requests, recipe

    def __call__(self, examples: Sequence[Example]) -> tuple[list[str], Floats, list[bool]]:
        clean = [one for one in examples if not one.attack]
        known = {row for one in clean for row in one.rows}
        candidates = [
            _rows_of(one, [number for number, row in enumerate(one.rows) if row not in known] or [*range(len(one.rows))])
            for one in examples
            if one.attack
        ]
        made = self._made(clean)
        first = _regression(*_stacked(made or candidates, clean), self._recipe)
        best = []
        for one in candidates:
            found = _scores(first, one.rows, one.dense)
            best.append(_rows_of(one, [int(found.argmax())]))
        return _stacked([*best, *made], clean)

    def _made(self, clean: Sequence[Example]) -> list[Example]:
        """Requests, each planted as a line of its own into a clean passage."""
        pick = random.Random(self._recipe.seed)
        found = []
        for request in self._requests:
            lines = list(pick.choice(clean).rows)
            place = pick.choice((0, len(lines), pick.randint(0, len(lines))))
            lines.insert(place, readings(request)[0])
            rows, dense = classifier.passage("\n".join(lines))
            planted = [number for number, row in enumerate(rows) if row in lines[place] and number >= place][:1]
            found.append(_rows_of(Example(rows, dense, "attack"), planted))
        return found


def _rows_of(example: Example, numbers: Sequence[int]) -> Example:
    return Example([example.rows[number] for number in numbers], example.dense[list(numbers)], example.label)


def _stacked(attacks: Sequence[Example], clean: Sequence[Example]) -> tuple[list[str], Floats, list[bool]]:
    both = [*attacks, *clean]
    rows = [row for one in both for row in one.rows]
    return rows, np.concatenate([one.dense for one in both]), [one.attack for one in both for _ in one.rows]


def _head(examples: Sequence[Example], learnt: Training, recipe: GuardRecipe) -> tuple[HeadArrays, dict[str, float]]:
    """The head on all examples, its thresholds from scores that each text got from a head that had not seen it."""
    fold = _folds([one.label for one in examples], recipe)
    held = np.zeros(len(examples), dtype=np.float32)
    for number in range(recipe.folds):
        seen = [one for one, of in zip(examples, fold, strict=True) if of != number]
        head = _regression(*learnt(seen), recipe)
        for place in np.flatnonzero(fold == number):
            held[place] = _scores(head, examples[place].rows, examples[place].dense).max()
    labels = np.array([one.label for one in examples])
    ordinary = np.sort(held[labels == "ordinary"])[::-1]
    head = _regression(*learnt(examples), recipe)._replace(ordinary=ordinary)
    figures = {f"recall_at_{rate}": float((held[labels == "attack"] > head.threshold(rate)).mean()) for rate in (0.01, 0.05)}
    if (labels == "lookalike").any():
        figures["lookalikes_at_0.01"] = float((held[labels == "lookalike"] > head.threshold(0.01)).mean())
    return head, figures | {"attacks": float((labels == "attack").sum()), "ordinary": float(len(ordinary))}


def _folds(labels: Sequence[str], recipe: GuardRecipe) -> NDArray[np.int64]:
    """Each example's fold (n,), every label spread over the folds."""
    pick = np.random.default_rng(recipe.seed)
    fold = np.zeros(len(labels), dtype=np.int64)
    for label in sorted(set(labels)):
        places = pick.permutation(np.flatnonzero(np.array(labels) == label))
        fold[places] = np.arange(len(places)) % recipe.folds
    return fold


def _regression(rows: Sequence[str], dense: Floats, attack: Sequence[bool], recipe: GuardRecipe) -> HeadArrays:
    """Logistic regression on n-grams scaled by how unevenly they lie between attacks and the rest (Wang and Manning, Baselines and
    Bigrams, ACL 2012); the scale goes into the weights."""
    from scipy.sparse import csr_matrix, diags, hstack
    from sklearn.linear_model import LogisticRegression

    counted = features.counts(rows)
    rarity = _rarity(counted, len(rows))
    seen = features.weighted(counted, rarity, len(rows))
    lexical = csr_matrix((seen.value, (seen.row, seen.column)), shape=(len(rows), FAMILIES * BUCKETS))
    bad = np.array(attack)
    scale = _unevenness(lexical, bad)
    model = LogisticRegression(
        C=recipe.inverse_l2,
        class_weight="balanced",
        solver="liblinear",
        dual=True,
        max_iter=1000,
        tol=0.01,
        random_state=recipe.seed,
    )
    model.fit(hstack([lexical @ diags(scale), csr_matrix(dense)]).tocsr(), bad)
    weights = model.coef_[0].astype(np.float32)
    words = (weights[: FAMILIES * BUCKETS] * scale).astype(np.float16).astype(np.float32)
    return HeadArrays(rarity, words, weights[FAMILIES * BUCKETS :], float(model.intercept_[0]), np.zeros(1, dtype=np.float32))


def _rarity(counted: Sequence[features.Counts], rows: int) -> Floats:
    """Inverse document frequency ln((1 + n) / (1 + rows with it)) + 1, zero for what no row has; (FAMILIES, BUCKETS)."""
    rarity = np.zeros((FAMILIES, BUCKETS), dtype=np.float32)
    for family, one in enumerate(counted):
        with_it = np.bincount(one.column, minlength=BUCKETS)
        rarity[family] = np.where(with_it > 0, np.log((1 + rows) / (1 + with_it)) + 1, 0)
    return rarity.astype(np.float16).astype(np.float32)  # as the bundle keeps it


def _unevenness(lexical: Any, bad: NDArray[np.bool_]) -> Floats:
    """The n-grams' absolute log-ratio of being in an attack and in another row, its mean 1 and a quarter of it the same for all."""
    there = lexical > 0
    shares = [(np.asarray(there[of].sum(axis=0)).ravel() + 1) / (of.sum() + 2) for of in (bad, ~bad)]
    ratio = np.abs(np.log(shares[0] / shares[1]))
    known = np.asarray(there.sum(axis=0)).ravel() > 0
    return np.asarray(0.25 + 0.75 * ratio / (ratio[known].mean() or 1.0), dtype=np.float32)


def _scores(head: HeadArrays, rows: Sequence[str], dense: Floats) -> Floats:
    return classifier.scores(head, features.weighted(features.counts(rows), head.rarity, len(rows)), dense)
