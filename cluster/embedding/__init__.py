"""Texts to vectors: the embedder's only home.

BERT-type sentence embedders (mean pooling) run on ONNX Runtime, because every retriever replica opens one and torch would cost it seconds
and hundreds of megabytes; many texts at a time run on torch in bfloat16 where that pays. Every other sentence embedder is run by
sentence-transformers.
"""

from cluster.embedding.opened import TOKENS_PER_BATCH, Embedder, Vectors
from cluster.embedding.weights import DEFAULT, PINNED, dimension_of, embedder_name, model_directory

__all__ = ["DEFAULT", "PINNED", "TOKENS_PER_BATCH", "Embedder", "Vectors", "dimension_of", "embedder_name", "model_directory"]
