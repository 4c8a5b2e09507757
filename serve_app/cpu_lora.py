"""LoRA arithmetic on CPU, adapter by adapter. Loaded into vLLM's worker; imports vLLM only there.

vLLM's own CPU path gathers the whole A and B matrix once for every token of the batch, which costs more than the model itself, and
reads slot -1 (the last adapter) for tokens that have none. Here the tokens of an adapter that has several are multiplied together, and
tokens without an adapter are left alone. Where many adapters have a token or two each, as when every stream decodes with another one,
all slots are multiplied in one batched product, without copying their matrices: a step for each would cost more.
"""

from typing import Any, NamedTuple

import torch

Rows = slice | torch.Tensor
FEW, MANY = 5, 8
"""An adapter with fewer tokens than ``FEW`` goes into the batched product, where there are at least ``MANY`` of them."""


class Grouping(NamedTuple):
    """Which rows belong to which adapter slot: those multiplied for their adapter alone (together as a slice: no copy is made), and
    ``batched`` (m,), with slot (m,) and place within the slot (m,) of each. Rows without an adapter (slot -1) are in neither."""

    groups: list[tuple[int, Rows]]
    batched: torch.Tensor | None = None
    places: tuple[torch.Tensor, torch.Tensor] = (torch.empty(0), torch.empty(0))
    depth: int = 0


def grouping(slots: torch.Tensor, few: int = FEW, many: int = MANY) -> Grouping:
    """The rows of a batch by their slots (tokens,)."""
    rows: dict[int, list[int]] = {}
    for row, slot in enumerate(slots.tolist()):
        if slot >= 0:
            rows.setdefault(slot, []).append(row)
    small = [slot for slot, mine in rows.items() if len(mine) < few]
    if len(small) < many:
        small = []
    batched = [(row, slot, place) for slot in small for place, row in enumerate(rows.pop(slot))]
    groups: list[tuple[int, Rows]] = []
    for slot in sorted(rows):
        mine = rows[slot]
        together = mine[-1] - mine[0] == len(mine) - 1
        groups.append((slot, slice(mine[0], mine[-1] + 1) if together else torch.tensor(mine)))
    if not batched:
        return Grouping(groups)
    columns = torch.tensor(batched).T
    return Grouping(groups, columns[0], (columns[1], columns[2]), int(columns[2].max()) + 1)


def add_delta(
    y: torch.Tensor,
    x: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    scale: float,
    where: Grouping,
    start: int,
    width: int,
) -> None:
    """``y[rows, start:start+width] += scale · x[rows] Aᵀ Bᵀ`` for the adapter of every row.

    Shapes: y (tokens, out), x (tokens, in), a (slots, 1, rank, in), b (slots, 1, width, rank).
    """
    width = min(width, b.shape[2])
    part = y[:, start : start + width]
    for slot, rows in where.groups:
        delta = x[rows] @ a[slot, 0].T @ b[slot, 0].T
        if isinstance(rows, slice):
            part[rows].add_(delta[:, :width], alpha=scale)
        else:
            part.index_add_(0, rows, delta[:, :width].to(part.dtype), alpha=scale)
    if where.batched is not None:
        mine = x.new_zeros(len(a), where.depth, x.shape[1])
        mine[where.places] = x[where.batched]
        low = torch.bmm(mine, a[:, 0].transpose(1, 2))
        delta = torch.bmm(low, b[:, 0].transpose(1, 2))[where.places]
        part.index_add_(0, where.batched, delta[:, :width].to(part.dtype), alpha=scale)


class GroupedLora:
    """vLLM's ``worker_extension_cls``: being imported puts the grouped arithmetic in place."""


def _install() -> None:
    from vllm.lora.punica_wrapper import punica_cpu

    class GroupedPunica(punica_cpu.PunicaWrapperCPU):  # type: ignore[misc,name-defined]
        """vLLM's wrapper with the linear layers' arithmetic replaced."""

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
                add_delta(y, x, a, b, scale, self._where, start, width)
                start += width

    punica_cpu.PunicaWrapperCPU = GroupedPunica


_install()
