"""What llama.cpp must be told of a model, from its ``config.json``: one entry per architecture that is known to convert faithfully.

Facts about GGUF's keys and the two conventions (rows of q and k in the order of the original Llama; Gemma's norms stored with their one
added) are llama.cpp's; everything here is checked by the parity of answers (``parity``).
"""

import math
from typing import Any, NamedTuple

import numpy as np
from gguf import GGUFWriter, RopeScalingType

from cluster.errors import InvalidInput

GEMMA_PATTERN = 6  # llama.cpp's: every sixth layer of Gemma 3 sees everything, the others a window


class Architecture(NamedTuple):
    """``name`` is llama.cpp's. ``permuted``: q and k rows are reordered. ``norm_shift`` is added to every norm."""

    name: str
    permuted: bool = False
    norm_shift: float = 0.0
    activation: str = "silu"


ARCHITECTURES = {
    "Qwen2ForCausalLM": Architecture("qwen2"),
    "Qwen3ForCausalLM": Architecture("qwen3"),
    "LlamaForCausalLM": Architecture("llama", permuted=True),
    "MistralForCausalLM": Architecture("llama", permuted=True),
    "Gemma3ForCausalLM": Architecture("gemma3", norm_shift=1.0, activation="gelu_pytorch_tanh"),
}


def architecture(config: dict[str, Any]) -> Architecture:
    """The model's entry. Raises InvalidInput with the way out when it has none, or a variant that llama.cpp would run otherwise."""
    names = config.get("architectures") or ["(none)"]
    found = ARCHITECTURES.get(names[0])
    if found is None:
        raise InvalidInput(
            f"A GGUF file of architecture {names[0]} cannot be made here (known: {', '.join(ARCHITECTURES)}); export with --form merged "
            "and convert that with llama.cpp's convert_hf_to_gguf.py."
        )
    activation = config.get("hidden_act") or config.get("hidden_activation") or found.activation
    if activation != found.activation:
        raise _unlike(names[0], f"activation '{activation}'")
    if config.get("use_sliding_window"):
        raise _unlike(names[0], "use_sliding_window")
    if found.name == "gemma3":
        _check_gemma(names[0], config)
    return found


def _unlike(name: str, what: str) -> InvalidInput:
    return InvalidInput(f"llama.cpp does not run {name} with {what} as transformers does; export with --form merged.")


def _check_gemma(name: str, config: dict[str, Any]) -> None:
    layers = int(config["num_hidden_layers"])
    expected = ["full_attention" if (at + 1) % GEMMA_PATTERN == 0 else "sliding_attention" for at in range(layers)]
    if config.get("layer_types", expected) != expected or config.get("sliding_window_pattern", GEMMA_PATTERN) != GEMMA_PATTERN:
        raise _unlike(name, f"layers that are not five of a window and one of everything ({config.get('layer_types')})")
    scale = config["hidden_size"] // config["num_attention_heads"] if layers == 62 else head_dim(config)
    if config.get("query_pre_attn_scalar", scale) != scale:
        raise _unlike(name, f"query_pre_attn_scalar {config['query_pre_attn_scalar']}")
    for key in ("attn_logit_softcapping", "use_bidirectional_attention"):
        if config.get(key):
            raise _unlike(name, key)


def head_dim(config: dict[str, Any]) -> int:
    """Width of one attention head."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def rope(config: dict[str, Any], layers: str = "full_attention") -> dict[str, Any]:
    """``rope_theta``, ``rope_type`` and its parameters, from the form of transformers 5 or the older one."""
    given = dict(config.get("rope_parameters") or {})
    if given and "rope_theta" not in given and any(isinstance(value, dict) for value in given.values()):
        return dict(given.get(layers) or {})
    if given:
        return given
    if layers == "sliding_attention":
        return {"rope_theta": config.get("rope_local_base_freq", 10_000.0), "rope_type": "default"}
    older = dict(config.get("rope_scaling") or {})
    older["rope_type"] = older.get("rope_type") or older.pop("type", "default")
    return {"rope_theta": config.get("rope_theta", 10_000.0), **older}


def rope_factors(config: dict[str, Any]) -> np.ndarray[Any, Any] | None:
    """Llama 3's slower rotations as divisors, float32 (head_dim / 2): llama.cpp's ``rope_freqs``. None for models without.

    Wavelengths beyond ``original / low_freq_factor`` are stretched by ``factor``, those below ``original / high_freq_factor`` stay, and
    between the two it goes over smoothly (Llama 3.1's model card; the same as transformers' ``rope_type: llama3``).
    """
    given = rope(config)
    if given.get("rope_type") != "llama3":
        return None
    width, base = head_dim(config), float(given["rope_theta"])
    wavelength = 2 * math.pi * base ** (np.arange(0, width, 2, dtype=np.float64) / width)
    original = float(given["original_max_position_embeddings"])
    low, high, factor = float(given["low_freq_factor"]), float(given["high_freq_factor"]), float(given["factor"])
    smooth = np.clip((original / wavelength - low) / (high - low), 0.0, 1.0)
    found: np.ndarray[Any, Any] = (1.0 / ((1 - smooth) / factor + smooth)).astype(np.float32)
    return found


def add_shape(writer: GGUFWriter, found: Architecture, config: dict[str, Any]) -> None:
    """Write sizes, norms and rotations. Raises InvalidInput on a kind of rotation that llama.cpp does not share."""
    context = int(config["max_position_embeddings"])
    if found.name == "llama" and config.get("sliding_window"):
        context = min(context, int(config["sliding_window"]))  # llama.cpp has no window there: within it, both are the same
    heads = int(config["num_attention_heads"])
    writer.add_context_length(context)
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_key_length(head_dim(config))
    writer.add_value_length(head_dim(config))
    writer.add_rope_dimension_count(head_dim(config))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(int(config["vocab_size"]))
    if found.name == "gemma3":
        writer.add_sliding_window(int(config["sliding_window"]))
        writer.add_rope_freq_base_swa(float(rope(config, "sliding_attention").get("rope_theta", 10_000.0)))
        if config.get("final_logit_softcapping"):
            writer.add_final_logit_softcapping(float(config["final_logit_softcapping"]))
    _add_rope(writer, rope(config), str(config["architectures"][0]))


def _add_rope(writer: GGUFWriter, given: dict[str, Any], name: str) -> None:
    writer.add_rope_freq_base(float(given.get("rope_theta", 10_000.0)))
    kind = given.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(given["factor"]))
    elif kind == "yarn" and not set(given) - {"rope_theta", "rope_type", "factor", "original_max_position_embeddings"}:
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(float(given["factor"]))
        writer.add_rope_scaling_orig_ctx_len(int(given["original_max_position_embeddings"]))
    elif kind not in ("default", "llama3"):
        raise _unlike(name, f"rotations of type '{kind}' ({given})")


def reordered(weight: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Rows of q or k, head by head: from transformers' halves to llama.cpp's neighbouring pairs."""
    rows = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, rows, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)
