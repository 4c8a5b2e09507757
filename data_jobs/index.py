"""Documents to passages with vectors, on Ray's workers; and the index of them, continued from the version before, in the driver."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cluster.artifacts import Artifacts, Bundle
from cluster.domain.base import digest_of
from cluster.domain.data_recipes import IngestRecipe
from cluster.domain.documents import Document, Passage
from cluster.domain.readers import marked, readers_of
from cluster.embedding import Embedder
from cluster.passage_index import FORMAT, IndexBuilder, PassageIndex
from cluster.scratch import working_folder
from data_jobs.chunk import chunk
from data_jobs.documents import document_of
from data_jobs.freed import give_back
from data_jobs.on_ray import Row
from data_jobs.ruler import Ruler, tokens_of
from data_jobs.shards import Shards

_PASSAGES_AT_A_TIME = 256
_GIVE_BACK_EVERY = 256  # shards
_DOCUMENT = ("source", "document_id", "identity", "digest", "media_type", "title", "text", "meta")


@cache
def opened(embedder: str, threads: int = 1, bulk: bool = True) -> Embedder:
    """The embedder, opened once in each worker process. One thread: Ray runs one task a core."""
    return Embedder(embedder, threads=threads, bulk=bulk)


def as_embedded(passage: Passage) -> str:
    """What of a passage is embedded: its heading says what its text is about."""
    return f"{passage.heading}\n{passage.text}" if passage.heading else passage.text


def how_indexed(recipe: IngestRecipe, embedder: str) -> dict[str, Any]:
    """Everything that decides what passages a document becomes, and their vectors. ``embedder``: its name; "" without vectors."""
    return {
        "chunk_size": recipe.chunk_size,
        "overlap": recipe.overlap,
        "chunk_unit": recipe.chunk_unit,
        "embedder": embedder,
        "format": FORMAT,
    }


def corpus_digest(identities: Iterable[str], how: dict[str, Any]) -> str:
    """What an index is made of: documents (their identities), chunking and embedder. Equal digests give equal answers, whatever the
    order the passages were made in, on how many nodes, and from which version before."""
    return digest_of({"documents": sorted(identities), **how})


@dataclass(frozen=True)
class Embedding:
    """How a worker makes vectors. ``base``: where the version before lies, if workers can read it; "": nowhere."""

    embedder: str
    threads: int = 1
    bulk: bool = True
    base: str = ""


def embed_group(row: Row, recipe: IngestRecipe, embedding: Embedding, washed: str, embedded: str) -> Iterator[Row]:
    """Ray Data's step: some documents of a shard to passages with vectors, in one shard; gives how many. A passage that the version
    before has word for word keeps its vector."""
    documents = [
        (document_of(one, recipe.corpus), one["identity"])
        for one in Shards(washed).rows(row["shard"], _DOCUMENT, "identity", row["documents"])
    ]
    ruler = tokens_of(embedding.embedder) if recipe.chunk_unit == "tokens" else None
    made = [_chunked(document, identity, recipe, ruler) for document, identity in documents]
    passages = [passage for _, found in made for passage in found]
    known = _known(embedding.base, [document.id for document, _ in documents]) if recipe.vectors and embedding.base else {}
    vectors = _vectors(passages, known, embedding) if recipe.vectors else None
    Shards(embedded).write(row["name"], _table(made, vectors), [row["name"]])
    yield {"passages": len(passages), "chars": sum(len(document.text) for document, _ in documents)}


def _chunked(document: Document, identity: str, recipe: IngestRecipe, ruler: Ruler | None) -> tuple[str, list[Passage]]:
    passages = chunk(document, recipe.chunk_size, recipe.overlap, ruler)
    readers = readers_of(recipe.access, document.source)
    if readers is not None:
        passages = [passage.model_copy(update={"readers": readers}) for passage in passages]
    return marked(identity, readers), passages


@lru_cache(maxsize=1)
def _opened_base(directory: str) -> PassageIndex:
    return PassageIndex.open(Path(directory))


def _known(base: str, document_ids: Sequence[str]) -> dict[str, np.ndarray]:
    """What was embedded → its vector, of the passages that these documents had in the version before."""
    index = _opened_base(base)
    places = [index.documents[one] for one in document_ids if one in index.documents]
    rows = np.concatenate([np.arange(first, first + count) for _, first, count in places]) if places else np.zeros(0, np.int64)
    vectors = index.vectors(rows) if len(rows) else None
    if vectors is None:
        return {}
    return {as_embedded(index.passage(int(row))): vector for row, vector in zip(rows, vectors, strict=True)}


def _vectors(passages: Sequence[Passage], known: dict[str, np.ndarray], how: Embedding) -> np.ndarray:
    texts = [as_embedded(passage) for passage in passages]
    new = [text for text in dict.fromkeys(texts) if text not in known]
    found = dict(known)
    for start in range(0, len(new), _PASSAGES_AT_A_TIME):
        some = new[start : start + _PASSAGES_AT_A_TIME]
        found |= zip(some, opened(how.embedder, how.threads, how.bulk).embed(some), strict=True)
    return np.stack([found[text] for text in texts])


def _table(made: Sequence[tuple[str, list[Passage]]], vectors: np.ndarray | None) -> Any:
    import pyarrow

    rows = [(identity, passage) for identity, passages in made for passage in passages]
    columns = {
        "document_id": pyarrow.array([passage.document_id for _, passage in rows], pyarrow.large_string()),
        "identity": pyarrow.array([identity for identity, _ in rows], pyarrow.large_string()),
        "passage": pyarrow.array([passage.model_dump_json() for _, passage in rows], pyarrow.large_string()),
    }
    if vectors is not None:
        flat = pyarrow.array(vectors.ravel(), pyarrow.float32())
        columns["vector"] = pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    return pyarrow.table(columns)


class NewIndex:
    """Where a version's index comes from: the one before (``base``), what is gone from it, and shards of what is new."""

    def __init__(
        self,
        base: PassageIndex | None,
        without: Collection[str],
        shards: Shards,
        names: Sequence[str],
        compact: bool,
        marked: bool,
    ) -> None:
        self.base, self.without, self.shards, self.names = base, without, shards, names
        self.compact, self.marked = compact, marked

    def publish(
        self, artifacts: Artifacts, dimension: int, expected: int, meta: dict[str, Any], done: Callable[[int], None]
    ) -> Bundle:
        """Builds the index beside its place, a document at a time, and publishes it. ``done`` hears of passages as they are added."""
        with working_folder("index") as scratch:
            place = scratch / "index"
            builder = IndexBuilder(
                place, dimension, expected, meta["embedder"], self.base, self.without, self.compact, self.marked
            )
            for document_id, identity, passages, vectors in self._documents():
                builder.add(document_id, identity, passages, vectors)
                done(len(passages))
            give_back()
            builder.finish(**meta["how"])
            return artifacts.publish("index", place, {**meta, "passages": builder.passages})

    def _documents(self) -> Iterator[tuple[str, str, list[Passage], np.ndarray | None]]:
        for number, name in enumerate(self.names, 1):
            if number % _GIVE_BACK_EVERY == 0:
                give_back()
            held: list[tuple[str, str, Passage, Any]] = []
            for batch in self.shards.batches(name, self._columns(name)):
                vectors = _matrix(batch)
                for place, row in enumerate(batch.select(["document_id", "identity", "passage"]).to_pylist()):
                    if held and held[0][0] != row["document_id"]:
                        yield _one(held)
                        held = []
                    vector = None if vectors is None else vectors[place]
                    held.append((row["document_id"], row["identity"], Passage.model_validate_json(row["passage"]), vector))
            if held:
                yield _one(held)

    def _columns(self, name: str) -> list[str]:
        return ["document_id", "identity", "passage", *(["vector"] if self.shards.has(name, "vector") else [])]


def _matrix(batch: Any) -> np.ndarray | None:
    if "vector" not in batch.schema.names:
        return None
    column = batch.column("vector")
    return column.flatten().to_numpy().reshape(len(column), -1)


def _one(held: list[tuple[str, str, Passage, Any]]) -> tuple[str, str, list[Passage], np.ndarray | None]:
    document_id, identity, _, first = held[0]
    vectors = None if first is None else np.stack([vector for _, _, _, vector in held])
    return document_id, identity, [passage for _, _, passage, _ in held], vectors
