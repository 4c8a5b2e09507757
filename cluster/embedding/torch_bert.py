"""The same encoder on torch in bfloat16, for many texts: processors with AMX multiply bfloat16 several times as fast as float32.

Vectors differ from ONNX Runtime's by rounding (cosine above 0.999), so an index may hold both.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TILE = 16


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
        loaded = {name.removeprefix("bert."): tensor for name, tensor in load_file(str(weights)).items()}
        self._weights = {name: tensor.to(torch.bfloat16) for name, tensor in loaded.items() if tensor.is_floating_point()}
        self._linears = {}
        for number in range(self._layers):
            layer = f"encoder.layer.{number}"
            parts = [f"{layer}.attention.self.{part}" for part in ("query", "key", "value")]
            self._linears[f"{layer}.attention.self"] = self._taken(parts)  # three multiplications in one
            for name in ("attention.output.dense", "intermediate.dense", "output.dense"):
                self._linears[f"{layer}.{name}"] = self._taken([f"{layer}.{name}"])

    def means(self, tokens: NDArray[np.int64], mask: NDArray[np.int32]) -> NDArray[np.float32]:
        """The mean state of each row's tokens, (n, d), for ids and mask (n, s)."""
        import torch

        # Attention over a width that is no multiple of 16 takes twice as long: its tiles do not fit.
        wider = ((0, 0), (0, -tokens.shape[1] % _TILE))
        tokens, mask = np.pad(tokens, wider), np.pad(mask, wider)
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
            joined = self._linear(state, f"{layer}.attention.self").unflatten(2, (3, self._heads, -1))
            query, key, value = joined.permute(2, 0, 3, 1, 4)
            context = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            attended = self._linear(context.transpose(1, 2).flatten(2), f"{layer}.attention.output.dense")
            middle = self._norm(state + attended, f"{layer}.attention.output.LayerNorm")
            wide = self._linear(middle, f"{layer}.intermediate.dense", "gelu")
            state = self._norm(middle + self._linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        return state

    def _taken(self, names: list[str]) -> Any:
        """The joined weights and biases of these layers, in the order that oneDNN multiplies fastest where this torch offers that."""
        import torch

        weight = torch.cat([self._weights.pop(f"{name}.weight") for name in names])
        bias = torch.cat([self._weights.pop(f"{name}.bias") for name in names])
        packed = torch.ops.mkldnn._reorder_linear_weight(weight) if _fuses() else None
        return weight, bias, packed

    def _linear(self, state: Any, name: str, then: str = "none") -> Any:
        """The layer's product, followed by GELU if asked: oneDNN does both in one pass over memory."""
        import torch
        from torch.nn import functional

        weight, bias, packed = self._linears[name]
        if packed is not None:
            return torch.ops.mkldnn._linear_pointwise(state, packed, bias, then, [], "none")
        product = functional.linear(state, weight, bias)
        return functional.gelu(product) if then == "gelu" else product

    def _norm(self, state: Any, name: str) -> Any:
        from torch.nn import functional

        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(state, weight.shape, weight, bias, self._epsilon)


def _fuses() -> bool:
    """Whether this torch offers what its own compiler uses for fused layers: no public name, so it is asked for, not relied on."""
    import torch

    return torch.backends.mkldnn.is_available() and all(  # type: ignore[no-untyped-call]
        hasattr(torch.ops.mkldnn, name) for name in ("_linear_pointwise", "_reorder_linear_weight")
    )
