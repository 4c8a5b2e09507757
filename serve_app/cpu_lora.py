"""LoRA arithmetic on CPU, adapter by adapter. Loaded into vLLM's worker; imports vLLM only there.

vLLM's own CPU path gathers the whole A and B matrix once for every token of the batch, which costs more than the model itself, and
reads slot -1 (the last adapter) for tokens that have none. Here the tokens of an adapter that has several are multiplied together, and
tokens without an adapter are left alone. Where many adapters have a token or two each, as when every stream decodes with another one,
a step for each would cost more: all of them are two embedding bags, ``Σᵢ xᵢ Aᵀ[slot, i]`` and ``Σᵣ lowᵣ Bᵀ[slot, r]``, which read each
token's matrices once where they lie. For that the matrices lie transposed.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

Rows = slice | torch.Tensor
FEW, MANY = 5, 4
"""The tokens of adapters with fewer than ``FEW`` become bags, where at least ``MANY`` adapters have so few."""


@dataclass
class Grouping:
    """Which rows belong to which adapter slot: those multiplied for their adapter alone (together as a slice: no copy is made), and the
    rows (m,) that are ``bags``, with the slot (m,) of each. Rows without an adapter (slot -1) are in neither."""

    groups: list[tuple[int, Rows]]
    bags: Rows | None = None
    slots: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    _known: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def entries(self, room: int, used: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The entries of each bag one after another, the first ``used`` of the ``room`` that a slot has, and where each bag begins."""
        found = self._known.get((room, used))
        if found is None:
            entries = (self.slots[:, None] * room + torch.arange(used)).view(-1)
            found = self._known[room, used] = (entries, torch.arange(0, len(entries), used))
        return found


def grouping(slots: torch.Tensor, few: int = FEW, many: int = MANY) -> Grouping:
    """The rows of a batch by their slots (tokens,)."""
    rows: dict[int, list[int]] = {}
    for row, slot in enumerate(slots.tolist()):
        if slot >= 0:
            rows.setdefault(slot, []).append(row)
    small = {slot for slot, mine in rows.items() if len(mine) < few}
    if len(small) < many:
        small = set()
    groups = [(slot, _together(rows[slot])) for slot in sorted(rows.keys() - small)]
    if not small:
        return Grouping(groups)
    bags = sorted(row for slot in small for row in rows[slot])
    return Grouping(groups, _together(bags), slots[bags])


def _together(rows: list[int]) -> Rows:
    """A slice where the rows, in their order, lie together, as those that decode do: no copy is made of one, and adding is quicker."""
    return slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] == len(rows) - 1 else torch.tensor(rows)


def _add(part: torch.Tensor, rows: Rows, delta: torch.Tensor, scale: float) -> None:
    if isinstance(rows, slice):
        part[rows].add_(delta, alpha=scale)
    else:
        part.index_add_(0, rows, delta.to(part.dtype), alpha=scale)


def add_delta(
    y: torch.Tensor,
    x: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    scale: float,
    where: Grouping,
    start: int,
    width: int,
    rank: int | None = None,
) -> None:
    """``y[rows, start:start+width] += scale · x[rows] Aᵀ Bᵀ`` for the adapter of every row.

    Shapes: y (tokens, out), x (tokens, in), a (slots, 1, room, in), b (slots, 1, width, room); ``rank`` is the highest that any adapter
    has, the room beyond it is zeros.
    """
    width, room = min(width, b.shape[2]), b.shape[3]
    rank = room if rank is None else rank
    part = y[:, start : start + width]
    for slot, rows in where.groups:
        delta = x[rows] @ a[slot, 0, :rank].T @ b[slot, 0, :, :rank].T
        _add(part, rows, delta[:, :width], scale)
    if where.bags is not None and rank:
        size = x.shape[1]
        mine = x[where.bags].to(a.dtype)
        low = _bags(a[:, 0].transpose(1, 2).reshape(-1, room), *where.entries(size, size), mine)
        delta = _bags(b[:, 0].transpose(1, 2).reshape(-1, b.shape[2]), *where.entries(room, rank), low[:, :rank].contiguous())
        _add(part, where.bags, delta[:, :width], scale)


def _bags(table: torch.Tensor, entries: torch.Tensor, begins: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return torch.embedding_bag(table, entries, begins, False, 0, False, weights.reshape(-1), False)[0]


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
        held.look(manager)

    LoRAModelManager._add_adapter = and_look

    class GroupedPunica(punica_cpu.PunicaWrapperCPU):  # type: ignore[misc,name-defined]
        """vLLM's wrapper with the linear layers' arithmetic replaced, and none for layers that no adapter changes."""

        _where = Grouping([])

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
                lay_transposed(a)
                lay_transposed(b)
                add_delta(y, x, a, b, scale, self._where, start, width, held.rank)
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
