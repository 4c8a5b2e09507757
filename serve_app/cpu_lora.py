"""LoRA arithmetic on CPU, adapter by adapter. Loaded into vLLM's worker; imports vLLM only there.

vLLM's own CPU path gathers the whole A and B matrix once for every token of the batch, which costs more than the model itself, and
reads slot -1 (the last adapter) for tokens that have none. Here the tokens of an adapter that has several are multiplied together, and
tokens without an adapter are left alone. Where several adapters have a token or two each, as when every stream decodes with another one,
each token's matrices are read once where they lie, by a kernel of its own (see cpu_lora_rows).
"""

from dataclasses import dataclass
from typing import Any

import torch

from serve_app.cpu_lora_rows import Singles, add_single, prepare, readable

Rows = slice | torch.Tensor
FEW = 5
"""The tokens of adapters with fewer are taken one by one."""


@dataclass
class Grouping:
    """Which rows belong to which adapter slot: those multiplied together for their adapter (as a slice where they lie together: no copy
    is made), and the ``single`` rows. Rows without an adapter (slot -1) are in neither."""

    groups: list[tuple[int, Rows]]
    single: Singles | None = None


def grouping(slots: torch.Tensor, few: int = FEW) -> Grouping:
    """The rows of a batch by their slots (tokens,)."""
    rows: dict[int, list[int]] = {}
    for row, slot in enumerate(slots.tolist()):
        if slot >= 0:
            rows.setdefault(slot, []).append(row)
    groups = [(slot, _together(mine)) for slot, mine in sorted(rows.items()) if len(mine) >= few]
    single = [(row, slot) for slot, mine in sorted(rows.items()) if len(mine) < few for row in mine]
    return Grouping(groups, Singles.of(single) if single else None)


def _together(rows: list[int]) -> Rows:
    """A slice where the rows, in their order, lie together, as those that decode do: no copy is made of one, and adding is quicker."""
    return slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] == len(rows) - 1 else torch.tensor(rows)


def _add(part: torch.Tensor, rows: Rows, delta: torch.Tensor, scale: float) -> None:
    if isinstance(rows, slice):
        part[rows].add_(delta, alpha=scale)
    else:
        part.index_add_(0, rows, delta.to(part.dtype), alpha=scale)


class Matrices:
    """What the adapters in their slots change of one linear layer, as both ways of multiplying read it.

    ``a`` (slots, 1, room, in) and ``b`` (slots, 1, width, room), which is laid transposed, are vLLM's: adapters come and go in them.
    """

    def __init__(self, a: torch.Tensor, b: torch.Tensor) -> None:
        lay_transposed(b)
        self.of = a  # kept: it is known by its identity
        self.a, self.b = a[:, 0], b[:, 0].transpose(1, 2)
        self.readable = readable(self.a), readable(self.b)


def add_delta(
    y: torch.Tensor,
    x: torch.Tensor,
    matrices: Matrices,
    scale: float,
    where: Grouping,
    start: int,
    width: int,
    rank: int | None = None,
) -> None:
    """``y[rows, start:start+width] += scale · x[rows] Aᵀ Bᵀ`` for the adapter of every row.

    Shapes: y (tokens, out), x (tokens, in); ``rank`` is the highest that any adapter has, the room beyond it is zeros.
    """
    a, b = matrices.a, matrices.b
    width, rank = min(width, b.shape[2]), b.shape[1] if rank is None else rank
    for slot, rows in where.groups:
        delta = x[rows] @ a[slot, :rank].T @ b[slot, :rank, :width]
        _add(y[:, start : start + width], rows, delta, scale)
    if where.single is not None:
        add_single(y, x, *matrices.readable, scale, where.single, start, width, rank)


def lay_transposed(weights: torch.Tensor) -> None:
    """Have a (slots, 1, n, m) tensor lie in memory as (slots, 1, m, n), unless it does."""
    if weights.stride(2) != 1:
        with torch.inference_mode(False):  # adapters are copied into it later, outside of inference
            weights.data = weights.transpose(2, 3).contiguous().transpose(2, 3)


class GroupedLora:
    """vLLM's ``worker_extension_cls``: being imported puts the grouped arithmetic in place."""


def _install() -> None:
    from vllm.lora.layers import LogitsProcessorWithLoRA, VocabParallelEmbeddingWithLoRA
    from vllm.lora.model_manager import LoRAModelManager
    from vllm.lora.punica_wrapper import punica_cpu

    held = _Held((LogitsProcessorWithLoRA, VocabParallelEmbeddingWithLoRA))
    add_adapter = LoRAModelManager._add_adapter

    def and_look(manager: Any, lora: Any) -> None:
        add_adapter(manager, lora)
        prepare()
        held.look(manager)

    LoRAModelManager._add_adapter = and_look

    class GroupedPunica(punica_cpu.PunicaWrapperCPU):  # type: ignore[misc,name-defined]
        """vLLM's wrapper with the linear layers' arithmetic replaced, and none for layers that no adapter changes."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._where = Grouping([])
            self._matrices: dict[int, Matrices] = {}

        def update_metadata(self, *args: Any, **kwargs: Any) -> None:
            super().update_metadata(*args, **kwargs)
            self._where = grouping(self.token_lora_indices)

        def add_lora_linear(
            self,
            y: torch.Tensor,
            x: torch.Tensor,
            lora_a_stacked: tuple[torch.Tensor, ...],
            lora_b_stacked: tuple[torch.Tensor, ...],
            scale: float,
            output_slices: tuple[int, ...],
            **_: Any,
        ) -> None:
            y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
            start = 0
            for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
                matrices = self._matrices.get(id(a)) or self._matrices.setdefault(id(a), Matrices(a, b))
                add_delta(y, x, matrices, scale, self._where, start, width, held.rank)
                start += width

        def add_lora_logits(self, *args: Any, **kwargs: Any) -> None:
            if LogitsProcessorWithLoRA in held.changed:
                super().add_lora_logits(*args, **kwargs)

        def add_lora_embedding(self, *args: Any, **kwargs: Any) -> None:
            if VocabParallelEmbeddingWithLoRA in held.changed:
                super().add_lora_embedding(*args, **kwargs)

    punica_cpu.PunicaWrapperCPU = GroupedPunica


class _Held:
    """What the adapters that are held have in common: the highest ``rank``, and which of the ``seldom`` kinds of layer any of them changes.
    vLLM multiplies by zeros for the others, up to the highest rank that it allows."""

    def __init__(self, seldom: tuple[type, ...]) -> None:
        self._seldom = seldom
        self.rank = 0
        self.changed: set[type] = set()

    def look(self, manager: Any) -> None:
        loras = manager.list_adapters().values()
        self.rank = max(lora.rank for lora in loras)
        self.changed = {
            kind
            for name, layer in manager.modules.items()
            for kind in self._seldom
            if isinstance(layer, kind) and any(manager._get_lora_layer_weights(lora, name) for lora in loras)
        }


_install()
