"""Passages for a question, from the index versions that a release pins. Indexes are opened once and kept."""

import asyncio
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog, corpora
from cluster.domain.conversations import Citation
from cluster.passage_index import Hit, PassageIndex


class Retriever:
    """Knows nothing of who may read what: a corpus is open to every user of an agent that holds it."""

    def __init__(self, catalog: Catalog, artifacts: Artifacts, threads: Executor) -> None:
        self._catalog, self._artifacts, self._threads = catalog, artifacts, threads
        self._opened: dict[tuple[str, int], asyncio.Task[PassageIndex]] = {}

    async def open(self, indexes: dict[str, int]) -> list[PassageIndex]:
        """The indexes of these corpora at these versions. Raises NotFound or IntegrityError when one is not there whole."""
        for key in indexes.items():
            if key not in self._opened:
                self._opened[key] = asyncio.create_task(asyncio.to_thread(self._read, *key))
        try:
            return list(await asyncio.gather(*(asyncio.shield(self._opened[key]) for key in indexes.items())))
        except Exception:
            for key in indexes.items():
                task = self._opened.get(key)
                if task is not None and task.done() and (task.cancelled() or task.exception()):
                    del self._opened[key]
            raise

    def _read(self, corpus: str, version: int) -> PassageIndex:
        with self._catalog.reading() as work:
            where = corpora.get(work, corpus, version)
        return PassageIndex.open(self._artifacts.fetch(where.index_uri))

    async def search(
        self, question: str, vector: NDArray[np.float32], indexes: dict[str, int], k: int, least: float
    ) -> tuple[Citation, ...]:
        """The ``k`` best passages over all indexes, numbered from 1; those less similar (cosine) than ``least`` are left out."""
        opened = await self.open(indexes)
        loop = asyncio.get_running_loop()
        lists = await asyncio.gather(
            *(loop.run_in_executor(self._threads, index.search, question, vector, k) for index in opened)
        )
        hits: list[Hit] = sorted((hit for hits in lists for hit in hits), key=lambda hit: -hit.score)
        if least > 0:
            hits = [hit for hit in hits if hit.similarity is not None and hit.similarity >= least]
        return tuple(
            Citation(
                number=number,
                passage_id=hit.passage.id,
                document_id=hit.passage.document_id,
                source=hit.passage.source,
                text=hit.passage.text,
            )
            for number, hit in enumerate(hits[:k], 1)
        )
