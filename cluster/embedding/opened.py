"""An opened embedder."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.embedding import eight_bits, torch_bert
from cluster.embedding.onnx_bert import OnnxBert
from cluster.embedding.torch_bert import TorchBert
from cluster.embedding.weights import DEFAULT, WEIGHTS, config_of, embedder_name, is_mean_bert, model_directory, token_limit
from cluster.errors import InvalidInput

TOKENS_PER_BATCH = 4096

Vectors = NDArray[np.float32]


class Embedder:
    """``path_or_name`` is a model directory, an installed package that carries one, or a Hugging Face id.

    ``dimension`` is the length of a vector; ``name`` says which weights made it, and belongs next to every stored vector.
    Safe to call from several threads. ``threads`` bounds the runtime's own pool (default: one per core). ``bulk`` is for many texts:
    it opens slower (torch) and then runs several times as fast where the processor multiplies bfloat16 in hardware. ``quick`` is for
    somebody who waits: products in 8 bits where the processor has them, 2.5 times as fast for a question, cosine to the exact vector
    0.998.
    """

    def __init__(
        self, path_or_name: str | Path = DEFAULT, threads: int | None = None, bulk: bool = False, quick: bool = False
    ) -> None:
        directory = model_directory(path_or_name)
        self.name = embedder_name(path_or_name)
        config = config_of(directory)
        self._other: Any = None
        if not is_mean_bert(directory, config):
            self._other = _sentence_transformer(directory, config)
            self.dimension = int(self._other.get_embedding_dimension())
            return
        from tokenizers import Tokenizer

        self.dimension = int(config["hidden_size"])
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(token_limit(directory, config))
        runtime = TorchBert if bulk and torch_bert.pays() else OnnxBert
        self._bert = runtime((directory / WEIGHTS).resolve(), config, threads)
        if quick and isinstance(self._bert, OnnxBert) and eight_bits.pays():
            seen = [encoding.ids for encoding in self._tokenizer.encode_batch(list(eight_bits.SEEN))]
            self._bert.to_eight_bits([np.array([ids], dtype=np.int64) for ids in seen])

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit vector for each text: float32, shape (len(texts), dimension). Text past the token limit is not seen."""
        if self._other is not None:
            made = self._other.encode(list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)
            return np.asarray(made, dtype=np.float32).reshape(len(texts), self.dimension)
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        for batch in _batches([len(row) for row in ids]):
            width = max(len(ids[index]) for index in batch)
            tokens = np.zeros((len(batch), width), dtype=np.int64)
            mask = np.zeros((len(batch), width), dtype=np.int32)
            for row, index in enumerate(batch):
                tokens[row, : len(ids[index])] = ids[index]
                mask[row, : len(ids[index])] = 1
            means = self._bert.means(tokens, mask)
            vectors[batch] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return vectors

    def count(self, texts: Sequence[str]) -> int:
        """How many tokens ``embed`` sees of the texts."""
        if self._other is not None:
            return int(sum(len(ids) for ids in self._other.tokenize(list(texts))["input_ids"]))
        return sum(len(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts)))


def _sentence_transformer(directory: Path, config: dict[str, Any]) -> Any:
    """Any other sentence embedder, run by its own library. Remote code in a model is never run."""
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(str(directory), device="cpu", trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InvalidInput(
            f"Embedder at {directory} (type '{config.get('model_type')}') cannot be opened by sentence-transformers "
            f"({str(error).splitlines()[0][:200]}); set 'embedder' in configs/models.yaml to another one."
        ) from None


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Indices grouped by similar length, so that little is padding; padded size at most TOKENS_PER_BATCH a group."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
