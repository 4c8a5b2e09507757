"""A BERT encoder as an ONNX graph, written here as protobuf: its weights are read from ``model.safetensors`` where they lie, so there
is no export step, no torch and no second copy on disk. Opening takes well under a second.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto); MultiHeadAttention and
SkipLayerNormalization are ONNX Runtime's own operators (domain com.microsoft).
"""

import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cluster.embedding import eight_bits

Largest = dict[str, NDArray[np.float32]]


class OnnxBert:
    """The encoder on ONNX Runtime, in float32, or with products in 8 bits once ``to_eight_bits`` was called. ``threads`` None: one per
    core."""

    def __init__(self, weights: Path, config: dict[str, Any], threads: int | None) -> None:
        self._weights, self._config, self._threads = weights, config, threads
        self._session = self._open(_bert_graph(config, weights))

    def _open(self, graph: "Graph") -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self._threads or 0
        # Spinning threads would take the cores from the engine that shares this machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(self._weights.parent))
        return onnxruntime.InferenceSession(graph.model, options, providers=["CPUExecutionProvider"])

    def to_eight_bits(self, seen: Sequence[NDArray[np.int64]]) -> None:
        """Round the products' weights, by what the activations are like for ``seen``, rows of token ids (1, s)."""
        watching = _bert_graph(self._config, self._weights, watch=True)
        session, largest = self._open(watching), Largest()
        for tokens in seen:
            states = session.run(watching.sources, {"ids": tokens, "mask": np.ones(tokens.shape, dtype=np.int32)})
            for name, state in zip(watching.sources, states, strict=True):
                largest[name] = np.maximum(largest.get(name, np.float32(0)), np.abs(state).max(axis=0))
        self._session = self._open(_bert_graph(self._config, self._weights, largest))

    def means(self, tokens: NDArray[np.int64], mask: NDArray[np.int32]) -> NDArray[np.float32]:
        """The mean state of each row's tokens, (n, d), for ids and mask (n, s)."""
        (states,) = self._session.run(["states"], {"ids": tokens, "mask": mask})
        weights = mask[:, :, None].astype(np.float32)
        means: NDArray[np.float32] = (states * weights).sum(axis=1) / weights.sum(axis=1)
        return means


FLOAT, INT8, INT32, INT64 = 1, 3, 6, 7


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


def _values(path: Path, entry: tuple[list[int], int, int]) -> NDArray[np.float32]:
    shape, offset, length = entry
    return np.fromfile(path, dtype=np.float32, count=length // 4, offset=offset).reshape(shape)


class Graph(NamedTuple):
    """A serialised ONNX model, and the names of the states that its products take."""

    model: bytes
    sources: list[str]


def _bert_graph(config: dict[str, Any], weights: Path, largest: Largest | None = None, watch: bool = False) -> Graph:
    """BERT's encoder (Devlin et al. 2018): ids, mask (n, s) → states (n, s, d), or with ``watch`` → the products' sources. With the
    ``largest`` activations of these sources, the products are in 8 bits."""
    width, heads, epsilon = config["hidden_size"], config["num_attention_heads"], float(config["layer_norm_eps"])
    tensors = _tensors(weights)
    nodes: list[bytes] = []
    made: list[bytes] = []
    rounded: set[str] = set()
    sources: list[str] = []

    def node(kind: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: int | float) -> str:
        nodes.append(_node(kind, inputs, output, domain, attributes))
        return output

    def constant(name: str, values: NDArray[Any]) -> str:
        made.append(_inline(name, values))
        return name

    def linear(source: str, layer: str, output: str) -> str:
        if source not in sources:
            sources.append(source)
        if largest is None:
            return node("Gemm", [source, f"{layer}.weight", f"{layer}.bias"], output, transB=1)
        rounded.add(f"{layer}.weight")
        factors, weight = eight_bits.smoothed(_values(weights, tensors[f"{layer}.weight"]), largest[source])
        smooth = node("Mul", [source, constant(f"{layer}.factors", factors)], f"{output}.smooth")
        small, steps = eight_bits.rounded(weight)
        inputs = [smooth, constant(f"{layer}.small", small), constant(f"{layer}.steps", steps)]
        inputs += [constant(f"{layer}.zeros", np.zeros(len(steps), dtype=np.int8)), f"{layer}.bias"]
        return node("DynamicQuantizeMatMul", inputs, output, "com.microsoft")

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

    used = [
        (name, entry) for name, entry in tensors.items() if name.startswith(("embeddings.", "encoder.")) and name not in rounded
    ]
    constants = {"zero": [0], "one": [1], "flat": [-1, width]}
    graph = b"".join(_field(1, item) for item in nodes) + _field(2, b"bert")
    graph += b"".join(_field(5, _external(name, entry, weights.name)) for name, entry in used)
    graph += b"".join(_field(5, _inline(name, np.array(values, dtype=np.int64))) for name, values in constants.items())
    graph += b"".join(_field(5, item) for item in made)
    graph += _field(11, _port("ids", INT64, ["n", "s"])) + _field(11, _port("mask", INT32, ["n", "s"]))
    for name in sources if watch else ["states"]:
        graph += _field(12, _port(name, FLOAT, ["rows", "columns"] if watch else ["n", "s", width]))
    opsets = _field(8, _field(1, b"") + _field(2, 20)) + _field(8, _field(1, b"com.microsoft") + _field(2, 1))
    return Graph(_field(1, 9) + _field(7, graph) + opsets, sources)


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


def _inline(name: str, values: NDArray[Any]) -> bytes:
    kinds = {"float32": FLOAT, "int8": INT8, "int64": INT64}
    out = b"".join(_field(1, size) for size in values.shape) + _field(2, kinds[values.dtype.name])
    return out + _field(8, name.encode()) + _field(9, np.ascontiguousarray(values).tobytes())


def _port(name: str, type_: int, shape: list[str | int]) -> bytes:
    dimensions = b"".join(_field(1, _field(1, size) if isinstance(size, int) else _field(2, size.encode())) for size in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, type_) + _field(2, dimensions)))
