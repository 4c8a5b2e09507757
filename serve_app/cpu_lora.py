"""LoRA arithmetic on CPU, adapter by adapter. Loaded into vLLM's worker; imports vLLM only there.

vLLM's own CPU path gathers the whole A and B matrix once for every token of the batch, which costs more than the model itself, and
reads slot -1 (the last adapter) for tokens that have none. Here the tokens of each adapter are multiplied together, and tokens
without an adapter are left alone.
"""

from typing import Any

import torch

Rows = slice | torch.Tensor


def groups(slots: torch.Tensor) -> list[tuple[int, Rows]]:
    """Which rows belong to which adapter slot (-1: none, left out). Rows that lie together come as a slice: no copy is made."""
    found: list[tuple[int, Rows]] = []
    for slot in torch.unique(slots).tolist():
        if slot < 0:
            continue
        rows = (slots == slot).nonzero().flatten()
        first, count = int(rows[0]), len(rows)
        found.append((slot, slice(first, first + count) if int(rows[-1]) == first + count - 1 else rows))
    return found


def add_delta(
    y: torch.Tensor,
    x: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    scale: float,
    where: list[tuple[int, Rows]],
    start: int,
    width: int,
) -> None:
    """``y[rows, start:start+width] += scale · x[rows] Aᵀ Bᵀ`` for the adapter of every group.

    Shapes: y (tokens, out), x (tokens, in), a (slots, 1, rank, in), b (slots, 1, width, rank).
    """
    for slot, rows in where:
        low = x[rows] @ a[slot, 0].T
        delta = low @ b[slot, 0].T
        width_now = min(width, delta.shape[1])
        part = y[:, start : start + width_now]
        if isinstance(rows, slice):
            part[rows].add_(delta[:, :width_now], alpha=scale)
        else:
            part.index_add_(0, rows, delta[:, :width_now].to(part.dtype), alpha=scale)


class GroupedLora:
    """vLLM's ``worker_extension_cls``: being imported puts the grouped arithmetic in place."""


def _install() -> None:
    from vllm.lora.punica_wrapper import punica_cpu

    class GroupedPunica(punica_cpu.PunicaWrapperCPU):  # type: ignore[misc,name-defined]
        """vLLM's wrapper with the linear layers' arithmetic replaced."""

        _groups: list[tuple[int, Rows]] = []

        def update_metadata(self, *args: Any, **kwargs: Any) -> None:
            super().update_metadata(*args, **kwargs)
            self._groups = groups(self.token_lora_indices)

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
                add_delta(y, x, a, b, scale, self._groups, start, width)
                start += width

    punica_cpu.PunicaWrapperCPU = GroupedPunica


_install()
