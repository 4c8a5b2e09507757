"""Building an index, from nothing or from an earlier one, in bounded memory: passages and words go to disk as they come."""

import json
import shutil
from array import array
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.domain.documents import Passage
from cluster.errors import InvalidInput
from cluster.passage_index import dense as dense_module
from cluster.passage_index.dense import DenseWriter, Floats
from cluster.passage_index.layout import DOCUMENTS, FORMAT, LEXICAL, MANIFEST, OFFSETS, PASSAGES, sources_of
from cluster.passage_index.lexical import LexicalWriter, copied
from cluster.passage_index.opened import PassageIndex
from cluster.passage_index.readers import ReadersWriter

MOST_DEAD = 0.25
"""Share of dead rows from which an index is written anew instead of being continued."""
_ROWS_AT_A_TIME = 4096


class IndexBuilder:
    """Writes the index into ``directory``, which must not hold one yet.

    ``base``: an opened index whose documents are taken over, but those in ``without``. ``expected``: about how many passages there will
    be, new ones and old ones; it decides the kind. ``dimension`` 0: an index without vectors. ``compact`` leaves no trace of dead rows.
    ``marked``: some passages are not for everybody.
    """

    def __init__(
        self,
        directory: Path,
        dimension: int,
        expected: int,
        embedder: str = "",
        base: PassageIndex | None = None,
        without: Collection[str] = (),
        compact: bool = False,
        marked: bool = False,
    ) -> None:
        if (directory / MANIFEST).exists():
            raise InvalidInput(f"There is an index at {directory} already; an index is never changed, so choose a new directory.")
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._dimension, self._embedder = directory, dimension, embedder
        self.kind = dense_module.kind_for(expected) if dimension else "lexical"
        self._offsets = array("q", [0])
        self._documents = Documents()
        self.passages = 0
        self._lines = (directory / PASSAGES).open("wb")
        kept = {name: place for name, place in base.documents.items() if name not in without} if base else {}
        dead = len(base.alive) - sum(rows for _, _, rows in kept.values()) if base else 0
        alike = base is not None and base.kind == self.kind and (base.readers is not None) == marked
        continues = base is not None and alike and not compact and dead <= MOST_DEAD * len(base.alive)
        if base is not None and continues:
            copied(base.directory / LEXICAL, directory / LEXICAL)
        self._lexical = LexicalWriter(directory / LEXICAL, marked)
        self._readers = ReadersWriter() if marked else None
        self._dense = self._dense_writer(expected, base.directory if base and continues else None)
        if base is not None:
            (self._continue if continues else self._copy)(base, kept)

    def _dense_writer(self, expected: int, base: Path | None) -> DenseWriter | None:
        return DenseWriter(self._directory, self.kind, self._dimension, expected, base) if self._dimension else None

    def _continue(self, base: PassageIndex, kept: dict[str, tuple[str, int, int]]) -> None:
        """Takes the rows over as they are; those of documents that are gone become blank."""
        self._lexical.remove(name for name in base.documents if name not in kept)
        alive = np.zeros(len(base.alive), dtype=bool)
        for _, first, rows in kept.values():
            alive[first : first + rows] = True
        for start in range(0, len(alive), _ROWS_AT_A_TIME):
            self._take_over(base, alive, start, min(start + _ROWS_AT_A_TIME, len(alive)))
        if self._readers is not None and base.readers is not None:
            self._readers.take_over(base.readers)
        named = sources_of(base.directory)
        for name, (identity, first, rows) in kept.items():
            self._documents.add(name, identity, named[name], first, rows)
        self.passages = int(alive.sum())

    def _take_over(self, base: PassageIndex, alive: NDArray[np.bool_], start: int, stop: int) -> None:
        offsets, lines = base.raw(start, stop)
        if alive[start:stop].all():
            self._lines.write(lines)
            shift = self._offsets[-1] - int(offsets[0])
            self._offsets.extend((offsets[1:] + shift).tolist())
            return
        for row in range(stop - start):
            line = lines[offsets[row] - offsets[0] : offsets[row + 1] - offsets[0]] if alive[start + row] else b"\n"
            self._offsets.append(self._offsets[-1] + self._lines.write(line))

    def _copy(self, base: PassageIndex, kept: dict[str, tuple[str, int, int]]) -> None:
        """Writes the documents that stay anew, with the vectors they have."""
        for name, (identity, first, rows) in sorted(kept.items(), key=lambda item: item[1][1]):
            numbers = np.arange(first, first + rows)
            self.add(name, identity, [base.passage(int(row)) for row in numbers], base.vectors(numbers))

    def add(self, document_id: str, identity: str, passages: Sequence[Passage], vectors: Floats | None = None) -> None:
        """A document's passages and their unit vectors (n, d). Raises InvalidInput when their numbers differ."""
        if self._dense is not None:
            shape = None if vectors is None else vectors.shape
            if shape != (len(passages), self._dimension):
                raise InvalidInput(
                    f"{len(passages)} passages need vectors of shape ({len(passages)}, {self._dimension}), not {shape}."
                )
            if vectors is not None and len(vectors):
                self._dense.add(vectors)
        first = len(self._offsets) - 1
        for passage in passages:
            self._mark(passage)
            self._lexical.add(len(self._offsets) - 1, passage)
            self._offsets.append(self._offsets[-1] + self._lines.write(passage.model_dump_json().encode() + b"\n"))
        self._documents.add(document_id, identity, passages[0].source if passages else "", first, len(passages))
        self.passages += len(passages)

    def _mark(self, passage: Passage) -> None:
        if self._readers is not None:
            self._readers.add(passage.readers)
        elif passage.readers is not None:
            raise InvalidInput(f"Passage {passage.id} is not for everybody; build the index with marked=True.")

    def finish(self, **more: Any) -> Path:
        """Writes what is left, the manifest last (``more`` goes into it); returns the directory. Raises InvalidInput without passages."""
        self._lines.close()
        if not self.passages:
            shutil.rmtree(self._directory)
            raise InvalidInput(
                f"An index of no passages cannot be built at {self._directory}; give at least one document with text."
            )
        self._lexical.finish()
        if self._dense is not None:
            self._dense.finish()
        np.save(self._directory / OFFSETS, np.frombuffer(self._offsets, dtype=np.int64))
        self._documents.write(self._directory / DOCUMENTS)
        if self._readers is not None:
            self._readers.write(self._directory)
            more["marked"] = True
        manifest = {
            "format": FORMAT,
            "kind": self.kind,
            "passages": self.passages,
            "documents": len(self._documents),
            "dimension": self._dimension,
            "embedder": self._embedder,
            **more,
        }
        (self._directory / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        return self._directory


class Documents:
    """The documents of an index in columns: there may be millions."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.identities: list[str] = []
        self.sources: list[str] = []
        self.firsts, self.rows = array("q"), array("q")

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, document_id: str, identity: str, source: str, first: int, rows: int) -> None:
        self.ids.append(document_id)
        self.identities.append(identity)
        self.sources.append(source)
        self.firsts.append(first)
        self.rows.append(rows)

    def write(self, file: Path) -> None:
        import pyarrow
        import pyarrow.parquet as parquet

        columns = {"document_id": self.ids, "identity": self.identities, "source": self.sources}
        numbers = {"first_row": np.array(self.firsts), "rows": np.array(self.rows)}
        parquet.write_table(pyarrow.table({**columns, **numbers}), file)


def build(passages: Sequence[Passage], vectors: Floats, directory: Path, embedder: str = "") -> Path:
    """The index of ``passages`` and their unit ``vectors`` (n, d) in one go; passages of one document must follow one another."""
    if vectors.ndim != 2 or len(vectors) != len(passages):
        raise InvalidInput(f"{len(passages)} passages need as many vectors, not an array of shape {vectors.shape}.")
    if not passages:
        raise InvalidInput(f"An index of no passages cannot be built at {directory}; give at least one document with text.")
    marked = any(passage.readers is not None for passage in passages)
    builder = IndexBuilder(directory, int(vectors.shape[1]), len(passages), embedder, marked=marked)
    first = 0
    for place in range(1, len(passages) + 1):
        if place == len(passages) or passages[place].document_id != passages[first].document_id:
            builder.add(passages[first].document_id, "", passages[first:place], vectors[first:place])
            first = place
    return builder.finish()
