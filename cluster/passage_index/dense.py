"""Vectors: FAISS's only home. The kind of index follows from the number of passages.

flat     up to 50,000: every vector is compared; exact
hnsw     up to 1,000,000: a graph (Malkov and Yashunin, arXiv:1603.09320)
ivfpq    beyond: cells and product quantisation (Jégou et al., "Product Quantization for Nearest Neighbor Search", 2011) at 1/32 of
         the memory; the best are compared again with their whole vectors, which stay on disk

A flat or ivfpq index is searched on a GPU when this FAISS has one; Ray hides GPUs from processes that did not ask for one.
"""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.passage_index.layout import RAW_VECTORS, VECTORS

HNSW_FROM = 50_000
IVF_FROM = 1_000_000
_HNSW_LINKS, _HNSW_BUILD, _HNSW_SEARCH = 32, 80, 96
_TRAIN_PER_CELL = 64
_RERANK = 4
_FEW, _MOST_EFFORT, _AT_A_TIME = 20_000, 64, 65_536
"""Selected rows that are compared one by one, how much harder a search for few among many tries at most, and rows read at a time."""
Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


def _faiss() -> Any:
    """FAISS, without its type hints, which know only some of its arguments."""
    import faiss

    return faiss


def kind_for(passages: int) -> str:
    """Which kind serves this many passages best."""
    return "ivfpq" if passages > IVF_FROM else "hnsw" if passages > HNSW_FROM else "flat"


class DenseWriter:
    """Adds vectors to a new index of ``kind``, or to a copy of ``base``, whose kind must be the same. Of an ivfpq index the whole
    vectors are written beside it (float16)."""

    def __init__(self, directory: Path, kind: str, dimension: int, expected: int, base: Path | None = None) -> None:
        faiss = _faiss()
        self.kind, self._dimension, self._expected = kind, dimension, expected
        self._directory = directory
        self._index: Any = faiss.read_index(str(base / VECTORS)) if base else None
        self._waiting: list[Floats] = []
        if base and kind == "ivfpq":
            shutil.copyfile(base / RAW_VECTORS, directory / RAW_VECTORS)
        if base is None and kind == "flat":
            self._index = faiss.IndexFlatIP(dimension)
        elif base is None and kind == "hnsw":
            self._index = faiss.IndexHNSWFlat(dimension, _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
            self._index.hnsw.efConstruction, self._index.hnsw.efSearch = _HNSW_BUILD, _HNSW_SEARCH

    def add(self, vectors: Floats) -> None:
        """Unit vectors (n, d), in the order of their rows."""
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if self.kind == "ivfpq":
            with (self._directory / RAW_VECTORS).open("ab") as file:
                vectors.astype("<f2").tofile(file)
        if self._index is not None:
            self._index.add(vectors)
            return
        self._waiting.append(vectors)
        if sum(map(len, self._waiting)) >= _TRAIN_PER_CELL * _cells(self._expected):
            self._train()

    def _train(self) -> None:
        """Cells and codes are learnt from the vectors that came first: 64 a cell."""
        faiss = _faiss()
        sample = np.concatenate(self._waiting)
        cells = max(1, min(_cells(self._expected), len(sample) // 39))  # FAISS warns below 39 points a cell
        codes = max(code for code in (48, 32, 16, 8, 4, 2, 1) if self._dimension % code == 0)
        bits = 8 if len(sample) >= 39 * 256 else 4
        self._index = faiss.index_factory(self._dimension, f"IVF{cells},PQ{codes}x{bits}", faiss.METRIC_INNER_PRODUCT)
        self._index.train(sample)
        self._index.nprobe = max(1, min(cells, 4 + cells // 32))
        self._index.add(sample)
        self._waiting = []

    def finish(self) -> None:
        """Writes the index out."""
        faiss = _faiss()
        if self._index is None:
            self._train()
        faiss.write_index(self._index, str(self._directory / VECTORS))


def _cells(expected: int) -> int:
    return max(1, round(4 * math.sqrt(expected)))


class Selection:
    """Rows (n,) that a search is held to."""

    def __init__(self, rows: NDArray[np.bool_]) -> None:
        self.rows, self.count = rows, int(rows.sum())
        # A selector must outlive every search that uses it, and so must its bits.
        self._bits = np.packbits(rows, bitorder="little")
        self.selector = _faiss().IDSelectorBitmap(self._bits)


class Dense:
    """The opened vectors; ``alive`` masks dead rows. Memory mapped: processes on one machine share it."""

    def __init__(self, directory: Path, kind: str, alive: NDArray[np.bool_]) -> None:
        faiss = _faiss()
        self.kind, self._alive = kind, alive
        self._index: Any = faiss.read_index(str(directory / VECTORS), faiss.IO_FLAG_MMAP_IFC)
        self.dimension, self.rows = int(self._index.d), int(self._index.ntotal)
        whole = (self.rows, self.dimension)
        self._raw = np.memmap(directory / RAW_VECTORS, dtype="<f2", mode="r", shape=whole) if kind == "ivfpq" else None
        self._living = None if alive.all() else Selection(alive)
        self._on_gpu = kind != "hnsw" and getattr(faiss, "get_num_gpus", lambda: 0)() > 0
        if self._on_gpu:
            self._index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, self._index)

    def best(self, vector: Floats, depth: int, selection: Selection | None = None) -> list[tuple[int, float]]:
        """The rows whose vectors are most like ``vector`` (d,), with their cosine, best first; with a ``selection`` only of its rows,
        and as many of them as there are."""
        if selection is not None:
            return self._best_of(selection, vector, min(depth, selection.count))
        wide = depth * _RERANK if self._raw is not None else depth
        if self._on_gpu:  # no selectors there: ask for more, and leave the dead out
            wide = min(2048, wide + int((~self._alive).sum()))
            similarities, found = self._index.search(vector[None, :], wide)
        else:
            similarities, found = self._index.search(vector[None, :], wide, params=self._parameters(self._living))
        rows = found[0][found[0] >= 0]
        rows = rows[self._alive[rows]]
        if self._raw is None and not self._on_gpu:
            return list(zip(rows.tolist(), similarities[0, : len(rows)].tolist(), strict=True))[:depth]
        exact = self.similarities(vector, rows)
        order = np.lexsort((rows, -exact))[:depth]
        return list(zip(rows[order].tolist(), exact[order].tolist(), strict=True))

    def _best_of(self, selection: Selection, vector: Floats, depth: int) -> list[tuple[int, float]]:
        if depth == 0:
            return []
        if self.kind == "flat" and not self._on_gpu:  # exact as it is
            found = self._index.search(vector[None, :], depth, params=self._parameters(selection))
            return list(zip(found[1][0].tolist(), found[0][0].tolist(), strict=True))
        rows = np.zeros(0, dtype=np.int64)
        if selection.count > _FEW:
            rows = self._found(selection, vector, depth)
        if len(rows) < depth:
            rows = np.flatnonzero(selection.rows)
        parts = [self.similarities(vector, rows[start : start + _AT_A_TIME]) for start in range(0, len(rows), _AT_A_TIME)]
        exact = np.concatenate(parts)
        order = np.lexsort((rows, -exact))[:depth]
        return list(zip(rows[order].tolist(), exact[order].tolist(), strict=True))

    def _found(self, selection: Selection, vector: Floats, depth: int) -> Rows:
        """Candidates among many selected rows, sought the harder the fewer of all they are."""
        effort = min(_MOST_EFFORT, math.ceil(self.rows / selection.count))
        wide = depth * _RERANK if self._raw is not None else depth
        if self._on_gpu:
            _, found = self._index.search(vector[None, :], min(2048, 2 * effort * wide))
        else:
            _, found = self._index.search(vector[None, :], wide, params=self._parameters(selection, effort))
        rows: Rows = found[0][found[0] >= 0]
        return rows[selection.rows[rows]]

    def similarities(self, vector: Floats, rows: Rows) -> Floats:
        """The cosine of ``vector`` with each of these rows."""
        result: Floats = self.vectors(rows) @ vector
        return result

    def vectors(self, rows: Rows) -> Floats:
        """The vectors of these rows (n, d)."""
        if self._raw is not None:
            return np.asarray(self._raw[rows], dtype=np.float32)
        result: Floats = self._index.reconstruct_batch(np.ascontiguousarray(rows, dtype=np.int64))
        return result

    def _parameters(self, selection: Selection | None, effort: int = 1) -> Any:
        faiss = _faiss()
        if selection is None:
            return None
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(sel=selection.selector, efSearch=_HNSW_SEARCH * effort)
        if self.kind == "ivfpq":
            return faiss.SearchParametersIVF(sel=selection.selector, nprobe=min(self._index.nlist, self._index.nprobe * effort))
        return faiss.SearchParameters(sel=selection.selector)
