"""Categories by a few examples: a conversation is of the category whose examples' mean lies nearest, where that is near enough.

After prototypical networks (Snell et al., 2017, arXiv:1703.05175), with the embedder as it is: nothing is trained, so a category is
added by writing examples into the recipe.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cluster.embedding import Embedder, Vectors

_CHARACTERS = 400
"""What a conversation is about is said at its beginning, and embedding takes time by length."""


class Categorised(NamedTuple):
    """The nearest category, or None under the threshold, and its cosine."""

    name: str | None
    score: float


class Categories:
    """The recipe's categories on an embedder."""

    def __init__(self, examples: Mapping[str, Sequence[str]], threshold: float, embedder: Embedder) -> None:
        self._embedder, self._threshold = embedder, threshold
        self.names = sorted(examples)
        self._centroids = np.stack([self._mean(examples[name]) for name in self.names])

    def _mean(self, texts: Sequence[str]) -> Vectors:
        mean = self._embedder.embed([text for text in texts if text.strip()]).mean(axis=0)
        unit: Vectors = mean / np.linalg.norm(mean)
        return unit

    def of(self, texts: Sequence[str]) -> list[Categorised]:
        """One category for each text. A tie goes to the first name of the alphabet."""
        if not texts:
            return []
        scores = self._embedder.embed([text[:_CHARACTERS] for text in texts]) @ self._centroids.T
        best = scores.argmax(axis=1)
        return [
            Categorised(self.names[place] if score >= self._threshold else None, round(float(score), 4))
            for place, score in zip(best, scores[np.arange(len(best)), best], strict=True)
        ]
