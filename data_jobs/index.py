"""Passages to a published index: embedding on Ray's workers, building in the driver, one bundle of kind "index"."""

import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cluster.artifacts import Artifacts, Bundle
from cluster.domain.base import digest_of
from cluster.domain.documents import Passage
from cluster.embedding import Embedder
from cluster.passage_index import FORMAT, build

Batch = dict[str, Any]


@cache
def opened(embedder: str) -> Embedder:
    """The embedder, opened once in each worker process. One thread: Ray runs one task a core."""
    return Embedder(embedder, threads=1, bulk=True)


def as_embedded(passage: Passage) -> str:
    """What of a passage is embedded: its heading says what its text is about."""
    return f"{passage.heading}\n{passage.text}" if passage.heading else passage.text


def embed_batch(batch: Batch, embedder: str) -> Batch:
    """Ray Data's step: adds the column ``vector`` (n, d) to a batch with the column ``passage`` (JSON)."""
    texts = [as_embedded(Passage.model_validate_json(row)) for row in batch["passage"]]
    return {**batch, "vector": opened(embedder).embed(texts)}


def corpus_digest(documents: Iterable[str], chunk_size: int, overlap: int, embedder: str) -> str:
    """What an index is made of: documents (their identities), chunking and embedder. Equal digests would give equal indexes."""
    made_of = {
        "documents": sorted(documents),
        "chunk_size": chunk_size,
        "overlap": overlap,
        "embedder": embedder,
        "format": FORMAT,
    }
    return digest_of(made_of)


def publish(artifacts: Artifacts, passages: list[Passage], vectors: list[np.ndarray], meta: dict[str, Any]) -> Bundle:
    """Builds the index beside its place and publishes it. Passages are ordered by document and number, whoever embedded them first."""
    order = sorted(range(len(passages)), key=lambda row: (passages[row].source, passages[row].number))
    with tempfile.TemporaryDirectory(prefix="treadle-index-") as scratch:
        ordered = np.stack([vectors[row] for row in order])
        directory = build([passages[row] for row in order], ordered, Path(scratch) / "index", meta["embedder"])
        return artifacts.publish("index", directory, meta)
