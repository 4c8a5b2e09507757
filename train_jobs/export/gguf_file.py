"""A release as one GGUF file, written tensor by tensor: F16, Q8_0 or Q4_0 for matrices, float32 for everything else.

K-quants (Q4_K_M and the like) are not made here: their search for scales is code of llama.cpp's own. Export F16 and run its llama-quantize.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gguf import (
    GGML_QUANT_SIZES,
    MODEL_ARCH,
    MODEL_ARCH_NAMES,
    GGMLQuantizationType,
    GGUFWriter,
    LlamaFileType,
    get_tensor_name_map,
    quants,
)

from cluster.errors import InvalidInput
from train_jobs.export import architectures, vocabulary
from train_jobs.export.merge import Weights

TYPES = {
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}
_ROWS_AT_A_TIME = 4096
_ENDS_OF_THE_MODEL = ("token_embd.weight", "output.weight")


class Planned(NamedTuple):
    """One tensor of the file: its name there, the base's name (None: made here), its shape (rows first) and type."""

    name: str
    source: str | None
    shape: tuple[int, ...]
    kind: GGMLQuantizationType


def plan(weights: Weights, found: architectures.Architecture, kind: GGMLQuantizationType) -> tuple[list[Planned], list[str]]:
    """What the file will hold, and the matrices that stay F16 because their rows are no multiple of a block (32 numbers).

    In Q4_0, embedding and output layer are Q8_0: they matter most and are few. Raises InvalidInput naming a tensor that llama.cpp's
    architecture does not know.
    """
    arch = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == found.name)
    names = get_tensor_name_map(MODEL_ARCH(arch), int(weights.config["num_hidden_layers"]))
    tied = bool(weights.config.get("tie_word_embeddings", False))
    planned: list[Planned] = []
    left: list[str] = []
    for source, entry in weights.index.items():
        if (tied and source == "lm_head.weight") or source.endswith(".rotary_emb.inv_freq"):
            continue
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise InvalidInput(
                f"llama.cpp's {found.name} has no place for tensor {source} of base '{weights.base}'; use --form merged."
            )
        wanted = kind
        if len(entry.shape) < 2 or name.endswith("_norm.weight"):
            wanted = GGMLQuantizationType.F32
        elif kind is GGMLQuantizationType.Q4_0 and name in _ENDS_OF_THE_MODEL:
            wanted = GGMLQuantizationType.Q8_0
        if wanted in (GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_0) and entry.shape[-1] % GGML_QUANT_SIZES[wanted][0]:
            wanted = GGMLQuantizationType.F16
            left.append(name)
        planned.append(Planned(name, source, entry.shape, wanted))
    factors = architectures.rope_factors(weights.config)
    if factors is not None:
        planned.append(Planned("rope_freqs.weight", None, factors.shape, GGMLQuantizationType.F32))
    return planned, left


def write_gguf(
    weights: Weights, tokenizer: Any, file: Path, kind: str, name: str, heard: Callable[[float], None] = lambda _: None
) -> list[str]:
    """Write the file; returns the matrices that stayed F16. Nothing is flushed to its final place here: see ``placing``.

    ``name`` becomes the model's name. Raises InvalidInput for what llama.cpp could not run as transformers does.
    """
    found = architectures.architecture(weights.config)
    ends = vocabulary.end_ids(weights.base, weights.config, tokenizer)
    rows = weights.index["model.embed_tokens.weight"].shape[0]
    words = vocabulary.read_vocabulary(weights.base, rows)
    planned, left = plan(weights, found, TYPES[kind][0])
    writer = GGUFWriter(file, found.name)
    try:
        writer.add_type("model")
        writer.add_name(name)
        writer.add_file_type(TYPES[kind][1])
        writer.add_quantization_version(2)
        architectures.add_shape(writer, found, {**weights.config, "vocab_size": rows})
        vocabulary.add_vocabulary(writer, words, tokenizer, ends)
        for one in planned:
            writer.add_tensor_info(one.name, one.shape, np.dtype(np.float32), _bytes(one), raw_dtype=one.kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for at, one in enumerate(planned, 1):
            writer.write_tensor_data(_data(weights, found, one))
            heard(at / len(planned))
    finally:
        writer.close()
    return left


def _bytes(one: Planned) -> int:
    block, size = GGML_QUANT_SIZES[one.kind]
    return int(np.prod(one.shape)) // block * size


def _data(weights: Weights, found: architectures.Architecture, one: Planned) -> np.ndarray[Any, Any]:
    if one.source is None:
        factors = architectures.rope_factors(weights.config)
        assert factors is not None
        return factors
    values = weights.read(one.source).float().numpy()
    config = weights.config
    if found.permuted and ".q_proj." in one.source:
        values = architectures.reordered(values, int(config["num_attention_heads"]))
    elif found.permuted and ".k_proj." in one.source:
        values = architectures.reordered(values, int(config.get("num_key_value_heads") or config["num_attention_heads"]))
    if found.norm_shift and one.source.endswith("norm.weight"):
        values = values + np.float32(found.norm_shift)
    if one.kind is GGMLQuantizationType.F16 and np.abs(values).max(initial=0.0) > np.finfo(np.float16).max:
        raise InvalidInput(f"Tensor {one.name} has numbers beyond the range of F16 (65504); export with --type q8_0.")
    values = np.ascontiguousarray(values, dtype=np.float32)
    if values.ndim < 2:
        return quants.quantize(values, one.kind)
    parts = [quants.quantize(values[at : at + _ROWS_AT_A_TIME], one.kind) for at in range(0, len(values), _ROWS_AT_A_TIME)]
    return np.concatenate(parts)
