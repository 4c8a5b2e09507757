"""An opened index, and the search over words and vectors."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.domain.documents import Passage
from cluster.domain.users import Person
from cluster.errors import IntegrityError, InvalidInput
from cluster.passage_index.dense import Dense, Floats
from cluster.passage_index.layout import DOCUMENTS, LEXICAL, OFFSETS, PASSAGES, manifest_of
from cluster.passage_index.lexical import Lexical
from cluster.passage_index.readers import Readers, View

_LEAST_DEPTH = 50


@dataclass(frozen=True, slots=True)
class Hit:
    """A found passage. ``score`` is between 0 and 1; ranks count from 1, None: that search did not return it. ``similarity`` is the
    cosine, None in an index without vectors."""

    passage: Passage
    score: float
    dense_rank: int | None
    lexical_rank: int | None
    similarity: float | None


class PassageIndex:
    """Read-only, safe to search from several threads and to open in many processes. Passages stay on disk until they are found."""

    def __init__(self, directory: Path, manifest: dict[str, Any]) -> None:
        self.directory = directory
        self.manifest = manifest
        self.kind: str = manifest["kind"]
        self.embedder: str = manifest["embedder"]
        self.dimension: int = manifest["dimension"]
        self._offsets = np.load(directory / OFFSETS, mmap_mode="r")
        self._lines = np.memmap(directory / PASSAGES, dtype=np.uint8, mode="r")
        self.alive: NDArray[np.bool_] = np.diff(self._offsets) > 1
        self._lexical = Lexical(directory / LEXICAL)
        self._dense = Dense(directory, self.kind, self.alive) if self.dimension else None
        self.readers = Readers(directory, self.alive) if manifest.get("marked") else None

    @classmethod
    def open(cls, directory: Path) -> "PassageIndex":
        """Opens a finished index. Raises NotFound without one, IntegrityError when its parts disagree."""
        directory = Path(directory)
        manifest = manifest_of(directory)
        index = cls(directory, manifest)
        rows = index._dense.rows if index._dense else len(index.alive)
        named = len(index.readers.rows) if index.readers else rows
        if not (rows == named == len(index.alive) and len(index._lexical) == len(index) == manifest["passages"]):
            raise IntegrityError(
                f"The index at {directory} holds {rows} vectors, {len(index._lexical)} texts and {len(index)} passages but says "
                f"{manifest['passages']}; ingest its corpus again."
            )
        return index

    def __len__(self) -> int:
        return int(self.alive.sum())

    def passage(self, row: int) -> Passage:
        """The passage in row ``row`` (from 0, in the order they were added; dead rows count)."""
        return Passage.model_validate_json(self._lines[self._offsets[row] : self._offsets[row + 1]].tobytes())

    def raw(self, start: int, stop: int) -> tuple[NDArray[np.int64], bytes]:
        """The lines of rows ``start`` to ``stop`` as they stand, and their offsets (one more than rows)."""
        offsets = np.asarray(self._offsets[start : stop + 1])
        return offsets, self._lines[offsets[0] : offsets[-1]].tobytes()

    def passages(self) -> Iterator[Passage]:
        """All passages, in order."""
        return (self.passage(int(row)) for row in np.flatnonzero(self.alive))

    @cached_property
    def documents(self) -> dict[str, tuple[str, int, int]]:
        """Document id → (identity, first row, number of rows), for the documents that are not dead."""
        import pyarrow.parquet as parquet

        columns = parquet.read_table(self.directory / DOCUMENTS).to_pydict()
        named = zip(columns["document_id"], columns["identity"], columns["first_row"], columns["rows"], strict=True)
        return {document: (identity, first, rows) for document, identity, first, rows in named}

    def vectors(self, rows: NDArray[np.int64]) -> Floats | None:
        """The vectors of these rows (n, d); None in an index without vectors."""
        return self._dense.vectors(rows) if self._dense else None

    def search(self, text: str, vector: Floats | None, k: int = 4, person: Person | None = None) -> list[Hit]:
        """The ``k`` best passages for ``text`` and its unit ``vector`` (d,), by the mean of both scores, each relative to its best.

        That is the convex combination of Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval" (2022,
        arXiv:2210.11934), at equal weights; DECISIONS.md has the figures against reciprocal-rank fusion. Without a vector, or in an
        index without vectors, the words alone decide. ``person``: only among what they may read; None: among everything, for jobs and
        for whoever holds the files.
        """
        view = self.readers.view(person) if self.readers is not None and person is not None else None
        depth = min(max(1, len(self)), max(_LEAST_DEPTH, 4 * k))
        lexical = dict(self.best_lexical(text, depth, view))
        dense = dict(self.best_dense(vector, depth, view)) if vector is not None and self._dense else {}
        rows = np.array(sorted(lexical.keys() | dense.keys()), dtype=np.int64)
        if vector is not None and self._dense and len(rows):
            cosines = {row: dense.get(row) for row in rows.tolist()}
            missing = np.array([row for row, cosine in cosines.items() if cosine is None], dtype=np.int64)
            if len(missing):
                cosines |= dict(zip(missing.tolist(), self._dense.similarities(vector, missing).tolist(), strict=True))
        else:
            cosines = {}
        scores = _fused(rows.tolist(), lexical, cosines)
        ranks = ({row: rank for rank, row in enumerate(found, 1)} for found in (dense, lexical))
        dense_rank, lexical_rank = ranks
        best = sorted(scores, key=lambda row: (-scores[row], row))[:k]
        return [Hit(self.passage(row), scores[row], dense_rank.get(row), lexical_rank.get(row), cosines.get(row)) for row in best]

    def best_dense(self, vector: Floats, depth: int, view: View | None = None) -> list[tuple[int, float]]:
        """Rows and cosines by vectors alone, best first."""
        if self._dense is None or vector.shape != (self.dimension,):
            raise InvalidInput(
                f"The index at {self.directory} takes vectors of {self.dimension} numbers, not shape {vector.shape}."
            )
        return self._dense.best(vector, depth, view.selection if view else None)

    def best_lexical(self, text: str, depth: int, view: View | None = None) -> list[tuple[int, float]]:
        """Rows and BM25 scores by words alone, best first."""
        return self._lexical.best(text, depth, view.keys if view else None)


def _fused(rows: list[int], lexical: dict[int, float], cosines: dict[int, float | None]) -> dict[int, float]:
    most_words = max(lexical.values(), default=0.0)
    most_alike = max((cosine for cosine in cosines.values() if cosine is not None), default=0.0)
    scores = {}
    for row in rows:
        by_words = lexical.get(row, 0.0) / most_words if most_words > 0 else 0.0
        if not cosines:
            scores[row] = by_words
            continue
        by_vector = max(0.0, cosines[row] or 0.0) / most_alike if most_alike > 0 else 0.0
        scores[row] = (by_words + by_vector) / 2
    return scores
