"""Passages and their vectors on disk, and the search over them: the only home of FAISS and Tantivy.

An index is a directory, written once: ``passages.jsonl`` with ``offsets.npy``, ``documents.parquet`` (which rows are whose),
``lexical/`` (BM25 by Tantivy), ``vectors.faiss`` (inner product on unit vectors = cosine; absent from an index without vectors), and
``index.json``, written last. Without ``index.json`` it does not exist. An index that follows another one takes its rows over: rows of
documents that are gone are dead (blank text, never found), new ones come after them.

It does not embed (``cluster.embedding`` does) and does not check who may read a passage.
"""

from cluster.passage_index.build import IndexBuilder, build
from cluster.passage_index.dense import HNSW_FROM, IVF_FROM
from cluster.passage_index.layout import FORMAT, sources_of, words
from cluster.passage_index.opened import Hit, PassageIndex

__all__ = ["FORMAT", "HNSW_FROM", "IVF_FROM", "Hit", "IndexBuilder", "PassageIndex", "build", "sources_of", "words"]
