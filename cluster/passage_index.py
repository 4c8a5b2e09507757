"""Passages and their vectors on disk, and the search over them: FAISS's only home.

An index is a directory, written once: ``vectors.faiss`` (inner product on unit vectors = cosine), ``lexical/`` (BM25 by bm25s),
``passages.jsonl`` with ``offsets.npy``, and ``index.json``, written last. Without ``index.json`` it does not exist.

It does not embed (``cluster.embedding`` does) and does not check who may read a passage.
"""

import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.domain.documents import Passage
from cluster.errors import IntegrityError, InvalidInput, NotFound

FORMAT = 1
HNSW_FROM = 50_000
RRF_K = 60
"""Reciprocal-rank fusion's constant: Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet", SIGIR 2009."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Hit:
    """A found passage. Ranks count from 1; None: that search did not return it. ``similarity`` is the cosine, where known."""

    passage: Passage
    score: float
    dense_rank: int | None
    lexical_rank: int | None
    similarity: float | None


def words(text: str) -> list[str]:
    """The lexical search's words: runs of letters, digits and underscores, case folded. No stemming, no stop words."""
    return _WORD.findall(text.casefold())


def build(passages: Sequence[Passage], vectors: NDArray[np.float32], directory: Path, embedder: str = "") -> Path:
    """Writes the index of ``passages`` and their unit ``vectors`` (n, d) into ``directory``, which must not hold one yet."""
    import bm25s
    import faiss

    if not passages:
        raise InvalidInput(f"An index of no passages cannot be built at {directory}; give at least one document with text.")
    if vectors.ndim != 2 or len(vectors) != len(passages):
        raise InvalidInput(f"{len(passages)} passages need as many vectors, not an array of shape {vectors.shape}.")
    if (directory / "index.json").exists():
        raise InvalidInput(f"There is an index at {directory} already; an index is never changed, so choose a new directory.")
    directory.mkdir(parents=True, exist_ok=True)

    dimension = int(vectors.shape[1])
    kind = "hnsw" if len(passages) > HNSW_FROM else "flat"
    dense: Any = faiss.IndexFlatIP(dimension)
    if kind == "hnsw":
        dense = faiss.IndexHNSWFlat(dimension, 32, faiss.METRIC_INNER_PRODUCT)
        dense.hnsw.efConstruction, dense.hnsw.efSearch = 80, 96
    dense.add(np.ascontiguousarray(vectors, dtype=np.float32))
    faiss.write_index(dense, str(directory / "vectors.faiss"))

    logging.getLogger("bm25s").setLevel(logging.WARNING)  # importing it set DEBUG
    lexical = bm25s.BM25(backend="numpy")
    # bm25s cannot index a corpus without a single word; a lone placeholder keeps the two searches in step.
    lexical.index([words(f"{passage.heading} {passage.text}") or ["_"] for passage in passages], show_progress=False)
    lexical.save(str(directory / "lexical"))

    offsets = [0]
    with (directory / "passages.jsonl").open("wb") as file:
        for passage in passages:
            offsets.append(offsets[-1] + file.write(passage.model_dump_json().encode() + b"\n"))
    np.save(directory / "offsets.npy", np.array(offsets, dtype=np.int64))
    manifest = {"format": FORMAT, "kind": kind, "passages": len(passages), "dimension": dimension, "embedder": embedder}
    (directory / "index.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return directory


class PassageIndex:
    """An opened index, read-only, safe to search from several threads. Passages stay on disk until they are found."""

    def __init__(self, directory: Path, manifest: dict[str, Any], dense: Any, lexical: Any) -> None:
        self.directory = directory
        self.kind: str = manifest["kind"]
        self.embedder: str = manifest["embedder"]
        self.dimension: int = manifest["dimension"]
        self._dense = dense
        self._lexical = lexical
        self._offsets = np.load(directory / "offsets.npy")
        self._lines = np.memmap(directory / "passages.jsonl", dtype=np.uint8, mode="r")

    @classmethod
    def open(cls, directory: Path) -> "PassageIndex":
        """Opens what ``build`` wrote. Raises NotFound without a finished index, IntegrityError when its parts disagree."""
        import bm25s
        import faiss

        directory = Path(directory)
        try:
            manifest = json.loads((directory / "index.json").read_text())
        except FileNotFoundError:
            raise NotFound(f"There is no finished index at {directory}; run treadle data ingest.") from None
        if manifest["format"] != FORMAT:
            raise IntegrityError(
                f"The index at {directory} has format {manifest['format']}, not {FORMAT}; ingest its corpus again."
            )
        dense = faiss.read_index(str(directory / "vectors.faiss"), faiss.IO_FLAG_READ_ONLY)
        lexical = bm25s.BM25.load(str(directory / "lexical"), mmap=True)
        lexical.backend = "numpy"
        index = cls(directory, manifest, dense, lexical)
        if not dense.ntotal == len(index) == manifest["passages"]:
            raise IntegrityError(
                f"The index at {directory} holds {dense.ntotal} vectors and {len(index)} passages but says {manifest['passages']}; "
                "ingest its corpus again."
            )
        return index

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def passage(self, row: int) -> Passage:
        """The passage in row ``row`` (0-based, in the order they were built)."""
        return Passage.model_validate_json(self._lines[self._offsets[row] : self._offsets[row + 1]].tobytes())

    def passages(self) -> Iterator[Passage]:
        """All passages, in order."""
        return (self.passage(row) for row in range(len(self)))

    def search(self, text: str, vector: NDArray[np.float32], k: int = 4) -> list[Hit]:
        """The ``k`` best passages for ``text`` and its unit ``vector`` (d,), by reciprocal-rank fusion of both searches."""
        if vector.shape != (self.dimension,):
            raise InvalidInput(
                f"The index at {self.directory} takes vectors of {self.dimension} numbers, not shape {vector.shape}."
            )
        depth = min(len(self), max(50, 4 * k))
        similarities, found = self._dense.search(vector[None, :], depth)
        dense = {int(row): (rank, float(similarities[0, rank - 1])) for rank, row in enumerate(found[0], 1) if row >= 0}
        lexical = {row: rank for rank, row in enumerate(self._best_lexical(text, depth), 1)}
        scores = {
            row: sum(1.0 / (RRF_K + rank) for rank in (dense.get(row, (None,))[0], lexical.get(row)) if rank)
            for row in dense.keys() | lexical.keys()
        }
        best = sorted(scores, key=lambda row: (-scores[row], row))[:k]
        return [Hit(self.passage(row), scores[row], *self._why(row, dense, lexical)) for row in best]

    @staticmethod
    def _why(
        row: int, dense: dict[int, tuple[int, float]], lexical: dict[int, int]
    ) -> tuple[int | None, int | None, float | None]:
        rank, similarity = dense.get(row, (None, None))
        return rank, lexical.get(row), similarity

    def _best_lexical(self, text: str, depth: int) -> list[int]:
        """Rows with a BM25 score above zero, best first; ties by row."""
        query = words(text)
        if not any(word in self._lexical.vocab_dict for word in query):
            return []
        scores = self._lexical.get_scores(query)
        rows = np.flatnonzero(scores > 0)
        if len(rows) > depth:
            rows = rows[np.argpartition(-scores[rows], depth - 1)[:depth]]
        return [int(row) for row in rows[np.lexsort((rows, -scores[rows]))]]
