"""How like an answer is to the organisation's own. Costs only agents whose rules ask for it, and them a thread of its own.

References are read and embedded when an agent is first asked, and looked up again after ``EVERY_S``, while the known ones go on being
used: an ideal answer that somebody gives counts within a minute.
"""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cluster.catalog import Catalog, references
from cluster.catalog.references import Reference
from cluster.domain.expectations import uncited
from cluster.domain.validation import Rule, SimilarityRule
from cluster.embedding import Embedder
from cluster.errors import TreadleError

log = logging.getLogger(__name__)
MOST = 2000
"""References of one agent, the newest ideal answers first."""
EVERY_S = 30.0


@dataclass(slots=True)
class _Known:
    """An agent's references; ``vectors`` (n, d) of their questions, and of reference answers as far as they were needed."""

    held: list[Reference]
    vectors: NDArray[np.float32]
    looked: float
    answers: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def asked_for(rules: tuple[Rule, ...]) -> SimilarityRule | None:
    """The rule that asks for a comparison."""
    return next((rule for rule in rules if isinstance(rule, SimilarityRule)), None)


class References:
    """The references of all agents that need them."""

    def __init__(self, catalog: Catalog, embedder: Embedder) -> None:
        self._catalog, self._embedder = catalog, embedder
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="references")
        self._known: dict[str, _Known] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}

    async def open(self, agent: str) -> None:
        """Have the agent's references at hand."""
        known = self._known.get(agent)
        if known is not None and time.monotonic() - known.looked < EVERY_S:
            return
        if agent not in self._looking:
            self._looking[agent] = asyncio.create_task(self._look(agent))
            self._looking[agent].add_done_callback(lambda _: self._looking.pop(agent, None))
        if known is None:
            await asyncio.shield(self._looking[agent])

    async def similarity(self, agent: str, rule: SimilarityRule, question: str, answer: str) -> float | None:
        """The cosine of the answer to the nearest reference of the most similar question; None where no question is similar enough."""
        await self.open(agent)
        known = self._known.get(agent)
        if known is None or not known.held:
            return None
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._cosine, known, rule, question, answer)

    def close(self) -> None:
        """Give the thread back."""
        self._thread.shutdown(wait=False)

    async def _look(self, agent: str) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._read, agent)
        except TreadleError as error:  # an answer is given all the same
            log.warning("the references of %s were not read: %s", agent, error.message)

    def _read(self, agent: str) -> None:
        with self._catalog.reading() as work:
            held = references.of_agent(work, agent, MOST)
        before = self._known.get(agent)
        looked = time.monotonic()
        if before is not None and before.held == held:
            before.looked = looked
            return
        vectors = {} if before is None else dict(zip((one.question for one in before.held), before.vectors, strict=True))
        new = [one.question for one in held if one.question not in vectors]
        vectors.update(zip(new, self._embedder.embed(new), strict=True))
        rows = [vectors[one.question] for one in held]
        self._known[agent] = _Known(held, np.stack(rows) if rows else np.empty((0, 0), np.float32), looked)

    def _cosine(self, known: _Known, rule: SimilarityRule, question: str, answer: str) -> float | None:
        near = known.vectors @ self._embedder.embed([question])[0]
        best = int(near.argmax())
        if near[best] < rule.asked:
            return None
        answers = known.held[best].answers
        said = uncited(answer, " ".join(answers))
        new = [one for one in answers if one not in known.answers]
        vectors = self._embedder.embed([said, *new])
        known.answers.update(zip(new, vectors[1:], strict=True))
        cosine = max(float(known.answers[one] @ vectors[0]) for one in answers)
        return round(min(1.0, max(0.0, cosine)), 4)
