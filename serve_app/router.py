"""Which agent answers: the router's head, with a threshold below which nobody is in scope.

A head is a release of the pseudo-agent ``router``: a bundle that ``cluster.routing`` reads and scores as training did.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cluster import routing
from cluster.domain.conversations import Route
from cluster.errors import InvalidInput


class RouterHead:
    """A trained head. ``ref`` names the release it came from, ``embedder`` the one that is served.

    Raises InvalidInput when the bundle cannot be read, does not fit itself or was trained on another embedder.
    """

    def __init__(self, directory: Path, ref: str, embedder: str) -> None:
        self._head = routing.load(directory, ref)
        self.ref = ref
        if self._head.embedder != embedder:
            raise InvalidInput(
                f"Router head {ref} was trained on embedder {self._head.embedder}, not on the served {embedder}; train it again."
            )
        self.scores(np.zeros(self._head.arrays.landmarks.shape[1], dtype=np.float32), "warm")

    @property
    def agents(self) -> tuple[str, ...]:
        return self._head.agents

    @property
    def threshold(self) -> float:
        return self._head.threshold

    def scores(self, vector: NDArray[np.float32], text: str) -> dict[str, float]:
        """Calibrated probabilities by agent for a question and its unit vector (d,); "no agent" keeps its share, so they may sum to
        less than 1."""
        found = routing.agent_scores(self._head, vector, text)
        return {name: float(value) for name, value in zip(self.agents, found, strict=True)}

    def route(self, vector: NDArray[np.float32], text: str, served: set[str], default: str) -> Route:
        """The best agent that is served; ``default`` when it is too unlikely that any of them is meant (``out_of_scope``)."""
        scores = {name: score for name, score in self.scores(vector, text).items() if name in served}
        best = max(scores, key=lambda name: scores[name], default=None)
        if best is None or sum(scores.values()) < self.threshold:
            return Route(agent=default, scores=scores, out_of_scope=best is not None, chosen_by="default", head=self.ref)
        return Route(agent=best, scores=scores, chosen_by="router", head=self.ref)


def default_route(agent: str) -> Route:
    """The route while there is no head."""
    return Route(agent=agent, chosen_by="default")
