"""Passages for a question, from the index versions that a release pins. Indexes are opened once, and closed when nobody uses them."""

import asyncio
import time
from collections.abc import Collection
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog, corpora
from cluster.domain.conversations import Citation
from cluster.domain.users import Person
from cluster.passage_index import Hit, PassageIndex

IDLE_SECONDS = 60.0
"""How long an index that is live nowhere stays open after its last question."""
Key = tuple[str, int]
"""A corpus and its version."""


class Retriever:
    """Searches as the asking person: what they may not read is left out before the best are taken."""

    def __init__(self, catalog: Catalog, artifacts: Artifacts, threads: Executor) -> None:
        self._catalog, self._artifacts, self._threads = catalog, artifacts, threads
        self._opened: dict[Key, asyncio.Task[PassageIndex]] = {}
        self._used: dict[Key, float] = {}

    async def open(self, indexes: dict[str, int]) -> list[PassageIndex]:
        """The indexes of these corpora at these versions. Raises NotFound or IntegrityError when one is not there whole."""
        for key in indexes.items():
            self._used[key] = time.monotonic()
            if key not in self._opened:
                self._opened[key] = asyncio.create_task(asyncio.to_thread(self._read, *key))
        tasks = [self._opened[key] for key in indexes.items()]
        try:
            return list(await asyncio.gather(*(asyncio.shield(task) for task in tasks)))
        except Exception:
            for key, task in zip(indexes.items(), tasks, strict=True):
                if task.done() and (task.cancelled() or task.exception()) and self._opened.get(key) is task:
                    del self._opened[key]
            raise

    def holds(self, corpus: str, version: int) -> bool:
        """Whether the index is open, or being opened."""
        return (corpus, version) in self._opened

    def retain(self, live: Collection[Key]) -> None:
        """Close what is not live and was not asked for a while. A search under way keeps its index to its end, and a turn that began
        with a closed one opens it again."""
        moment = time.monotonic()
        idle = [key for key in self._opened if key not in live and moment - self._used[key] > IDLE_SECONDS]
        for key in idle:
            del self._opened[key], self._used[key]

    def _read(self, corpus: str, version: int) -> PassageIndex:
        with self._catalog.reading() as work:
            where = corpora.get(work, corpus, version)
        return PassageIndex.open(self._artifacts.fetch(where.index_uri))

    async def search(
        self, question: str, vector: NDArray[np.float32], indexes: dict[str, int], k: int, least: float, person: Person
    ) -> tuple[Citation, ...]:
        """The ``k`` best passages over all indexes, numbered from 1; those less similar (cosine) than ``least`` are left out."""
        opened = await self.open(indexes)
        loop = asyncio.get_running_loop()
        lists = await asyncio.gather(
            *(loop.run_in_executor(self._threads, index.search, question, vector, k, person) for index in opened)
        )
        hits: list[Hit] = sorted((hit for hits in lists for hit in hits), key=lambda hit: -hit.score)
        if least > 0:
            hits = [hit for hit in hits if hit.similarity is not None and hit.similarity >= least]
        return tuple(_citation(number, hit) for number, hit in enumerate(hits[:k], 1))


def _citation(number: int, hit: Hit) -> Citation:
    passage = hit.passage
    return Citation(
        number=number,
        passage_id=passage.id,
        document_id=passage.document_id,
        source=passage.source,
        page=passage.page,
        start=passage.start,
        end=passage.end,
        text=passage.text,
        readers=passage.readers,
    )
