"""The same encoder on torch in bfloat16, for many texts: processors with AMX multiply bfloat16 several times as fast as float32.

Vectors differ from ONNX Runtime's by rounding (cosine above 0.999), so an index may hold both.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pays() -> bool:
    """Whether this processor has tiles for bfloat16 (Linux tells; elsewhere: no)."""
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


class TorchBert:
    """BERT's encoder (Devlin et al. 2018) over a safetensors file. ``threads`` are the process's: torch has one pool."""

    def __init__(self, weights: Path, config: dict[str, Any], threads: int | None) -> None:
        import torch
        from safetensors.torch import load_file

        if threads:
            torch.set_num_threads(threads)
        self._heads, self._epsilon = int(config["num_attention_heads"]), float(config["layer_norm_eps"])
        self._layers = int(config["num_hidden_layers"])
        loaded = load_file(str(weights))
        self._weights = {
            name.removeprefix("bert."): tensor.to(torch.bfloat16) for name, tensor in loaded.items() if tensor.is_floating_point()
        }

    def means(self, tokens: NDArray[np.int64], mask: NDArray[np.int32]) -> NDArray[np.float32]:
        """The mean state of each row's tokens, (n, d), for ids and mask (n, s)."""
        import torch

        with torch.inference_mode():
            weights = torch.from_numpy(mask).float()[:, :, None]
            states = self._states(torch.from_numpy(tokens), torch.from_numpy(mask).bool()[:, None, None, :]).float()
            means: NDArray[np.float32] = ((states * weights).sum(1) / weights.sum(1)).numpy()
            return means

    def _states(self, tokens: Any, mask: Any) -> Any:
        from torch.nn import functional

        table = self._weights
        size = tokens.shape[1]
        state = functional.embedding(tokens, table["embeddings.word_embeddings.weight"])
        state = (
            state + table["embeddings.position_embeddings.weight"][:size] + table["embeddings.token_type_embeddings.weight"][0]
        )
        state = self._norm(state, "embeddings.LayerNorm")
        for number in range(self._layers):
            layer = f"encoder.layer.{number}"
            query, key, value = (self._heads_of(state, f"{layer}.attention.self.{part}") for part in ("query", "key", "value"))
            context = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            attended = self._linear(context.transpose(1, 2).flatten(2), f"{layer}.attention.output.dense")
            middle = self._norm(state + attended, f"{layer}.attention.output.LayerNorm")
            wide = functional.gelu(self._linear(middle, f"{layer}.intermediate.dense"))
            state = self._norm(middle + self._linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        return state

    def _linear(self, state: Any, name: str) -> Any:
        from torch.nn import functional

        return functional.linear(state, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, state: Any, name: str) -> Any:
        from torch.nn import functional

        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(state, weight.shape, weight, bias, self._epsilon)

    def _heads_of(self, state: Any, name: str) -> Any:
        projected = self._linear(state, name)
        return projected.unflatten(2, (self._heads, -1)).transpose(1, 2)
