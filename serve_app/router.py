"""Which agent answers: a linear head over the question's embedding, with a threshold below which nobody is in scope.

A head is a release of the pseudo-agent ``router``: a bundle with ``head.npz`` (weights (rows, d), bias (rows,)) and ``head.json`` (agents,
threshold, temperature, embedder). A row more than agents stands for "no agent".
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cluster.domain.conversations import Route
from cluster.errors import InvalidInput


class RouterHead:
    """A trained head. ``ref`` names the release it came from."""

    def __init__(self, directory: Path, ref: str, embedder: str) -> None:
        described = json.loads((directory / "head.json").read_text(encoding="utf-8"))
        with np.load(directory / "head.npz") as arrays:
            self._weights, self._bias = arrays["weights"].astype(np.float32), arrays["bias"].astype(np.float32)
        self.ref = ref
        self.agents: tuple[str, ...] = tuple(described["agents"])
        self.threshold = float(described["threshold"])
        self._temperature = float(described.get("temperature", 1.0))
        rows = self._weights.shape[0]
        if rows - len(self.agents) not in (0, 1) or self._bias.shape != (rows,):
            raise InvalidInput(f"Router head {ref} has {rows} rows for {len(self.agents)} agents; train it again.")
        if described.get("embedder") and described["embedder"] != embedder:
            raise InvalidInput(
                f"Router head {ref} was trained on embedder {described['embedder']}, not on the served {embedder}; train it again."
            )

    def scores(self, vector: NDArray[np.float32]) -> dict[str, float]:
        """Calibrated probabilities by agent for a question's unit vector (d,); "no agent" keeps its share, so they may sum to less
        than 1."""
        logits = (self._weights @ vector + self._bias) / self._temperature
        weights = np.exp(logits - logits.max())
        return {name: float(value) for name, value in zip(self.agents, weights / weights.sum(), strict=False)}

    def route(self, vector: NDArray[np.float32], served: set[str], default: str) -> Route:
        """The best agent that is served; ``default`` when none is sure enough (``out_of_scope``)."""
        scores = {name: score for name, score in self.scores(vector).items() if name in served}
        best = max(scores, key=lambda name: scores[name], default=None)
        if best is None or scores[best] < self.threshold:
            return Route(agent=default, scores=scores, out_of_scope=best is not None, chosen_by="default", head=self.ref)
        return Route(agent=best, scores=scores, chosen_by="router", head=self.ref)


def default_route(agent: str) -> Route:
    """The route while there is no head."""
    return Route(agent=agent, chosen_by="default")
