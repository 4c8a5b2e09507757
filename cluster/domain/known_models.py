"""Shapes of published models, so that a training can be planned before its weights are on this machine.

From their published ``config.json`` files. A model on this machine is planned by its own file, never by this table.
"""

from typing import Any

_SIGLIP = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "image_size": 896,
    "patch_size": 14,
    "vision_use_head": False,
}


def _config(
    family: str, hidden: int, inner: int, layers: int, heads: tuple[int, int, int], vocab: int, tied: bool
) -> dict[str, Any]:
    """``heads``: query heads, key-value heads, size of a head."""
    return {
        "model_type": family,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "head_dim": heads[2],
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
    }


def _gemma(hidden: int, inner: int, layers: int, heads: tuple[int, int, int]) -> dict[str, Any]:
    text = _config("gemma3_text", hidden, inner, layers, heads, 262_208, True)
    return {"model_type": "gemma3", "text_config": text, "vision_config": _SIGLIP}


KNOWN: dict[str, dict[str, Any]] = {
    "Qwen/Qwen3-0.6B": _config("qwen3", 1024, 3072, 28, (16, 8, 128), 151_936, True),
    "Qwen/Qwen3-1.7B": _config("qwen3", 2048, 6144, 28, (16, 8, 128), 151_936, True),
    "Qwen/Qwen3-4B": _config("qwen3", 2560, 9728, 36, (32, 8, 128), 151_936, True),
    "Qwen/Qwen3-8B": _config("qwen3", 4096, 12288, 36, (32, 8, 128), 151_936, False),
    "Qwen/Qwen3-14B": _config("qwen3", 5120, 17408, 40, (40, 8, 128), 151_936, False),
    "Qwen/Qwen3-32B": _config("qwen3", 5120, 25600, 64, (64, 8, 128), 151_936, False),
    "meta-llama/Llama-3.2-1B": _config("llama", 2048, 8192, 16, (32, 8, 64), 128_256, True),
    "meta-llama/Llama-3.2-3B": _config("llama", 3072, 8192, 28, (24, 8, 128), 128_256, True),
    "meta-llama/Meta-Llama-3-8B": _config("llama", 4096, 14336, 32, (32, 8, 128), 128_256, False),
    "meta-llama/Llama-3.1-8B": _config("llama", 4096, 14336, 32, (32, 8, 128), 128_256, False),
    "meta-llama/Llama-3.1-70B": _config("llama", 8192, 28672, 80, (64, 8, 128), 128_256, False),
    "meta-llama/Llama-3.3-70B": _config("llama", 8192, 28672, 80, (64, 8, 128), 128_256, False),
    "google/gemma-3-1b": _config("gemma3_text", 1152, 6912, 26, (4, 1, 256), 262_144, True),
    "google/gemma-3-4b": _gemma(2560, 10240, 34, (8, 4, 256)),
    "google/gemma-3-12b": _gemma(3840, 15360, 48, (16, 8, 256)),
    "google/gemma-3-27b": _gemma(5376, 21504, 62, (32, 16, 128)),
    "mistralai/Mistral-7B": _config("mistral", 4096, 14336, 32, (32, 8, 128), 32_768, False),
    "mistralai/Mistral-Nemo": _config("mistral", 5120, 14336, 40, (32, 8, 128), 131_072, False),
    "mistralai/Mistral-Small-24B": _config("mistral", 5120, 32768, 40, (32, 8, 128), 131_072, False),
}
"""Hub ids without what comes after the size (-Instruct, -it, -v0.3): those share the shape."""


def published(model: str) -> dict[str, Any] | None:
    """The configuration of a hub id, such as ``Qwen/Qwen3-8B-Base``; None for one that is not in the table."""
    asked = model.lower()
    for known, config in KNOWN.items():
        if asked == known.lower() or asked.startswith(f"{known.lower()}-"):
            return config
    return None
