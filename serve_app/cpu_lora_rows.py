"""LoRA for rows that have an adapter almost for themselves, as a kernel that Numba compiles.

As matrix products, such rows are all overhead: what they cost should be the reading of their matrices. The kernel reads each once, in
the order in which it lies, and adds to the result where that lies; arithmetic is in float32, whatever the matrices are kept in.
"""

from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.extending import intrinsic


class Singles(NamedTuple):
    """Row numbers (m,) and the slot (m,) of each, int64. Those of a slot lie together: it is read from memory for the first of them."""

    rows: np.ndarray
    slots: np.ndarray

    @classmethod
    def of(cls, pairs: list[tuple[int, int]]) -> "Singles":
        """From (row, slot) pairs."""
        both = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return cls(both[:, 0].copy(), both[:, 1].copy())


def readable(matrices: torch.Tensor) -> np.ndarray:
    """As the kernel reads them, without a copy: bfloat16, which NumPy does not know, as its bits, and float16 as signed ones."""
    types = {torch.bfloat16: torch.uint16, torch.float16: torch.int16}
    return matrices.view(types.get(matrices.dtype, torch.float32)).numpy()


def add_single(
    y: torch.Tensor,
    x: torch.Tensor,
    a: np.ndarray,
    b: np.ndarray,
    scale: float,
    where: Singles,
    start: int,
    width: int,
    rank: int,
) -> None:
    """``y[row, start:start+width] += scale · x[row] A[slot]ᵀ B[slot]`` for every row and its slot, with the first ``rank`` rows of A and B.

    Shapes: y (tokens, out), x (tokens, in), of any floating type; ``readable`` a (slots, room, in), b (slots, room, at least width).
    """
    exact = y.dtype == torch.float32 and y.is_contiguous()
    sums = y if exact else torch.zeros(y.shape, dtype=torch.float32)
    kernel = _kernel(torch.get_num_threads() > 1)
    kernel(sums.numpy(), x.float().contiguous().numpy(), a, b, scale, *where, start, width, rank)
    if not exact:
        y.add_(sums)


@intrinsic
def _value(_typing: Any, stored: Any) -> Any:
    """A stored number as float32. A bfloat16 is the upper half of one."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        if stored == numba.float32:
            return arguments[0]
        if stored == numba.int16:
            return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())
        bits = builder.shl(builder.zext(arguments[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
        return builder.bitcast(bits, ir.FloatType())

    return numba.float32(stored), generate


def _add(y: Any, x: Any, a: Any, b: Any, scale: Any, rows: Any, slots: Any, start: int, width: int, rank: int) -> None:
    for place in numba.prange(len(rows)):
        out, given, slot = y[rows[place], start : start + width], x[rows[place]], slots[place]
        for r in range(rank):
            low = np.float32(0)
            for i in range(given.shape[0]):
                low += given[i] * _value(a[slot, r, i])
            low *= scale
            for o in range(width):
                out[o] += low * _value(b[slot, r, o])


@cache
def _kernel(parallel: bool) -> Any:
    """Compiled for every type, so that no answer waits for it. The sums may be made in any order, which is what lets them be vectors."""
    if parallel:
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    kernel = numba.njit(nogil=True, parallel=parallel, fastmath={"reassoc", "contract"})(_add)
    whole, rows, number = numba.float32[:, ::1], numba.int64[::1], numba.int64
    for matrices in (numba.float32[:, :, ::1], numba.uint16[:, :, ::1], numba.int16[:, :, ::1]):
        kernel.compile((whole, whole, matrices, matrices, numba.float32, rows, rows, number, number, number))
    return kernel


def prepare() -> None:
    """Compile now, which takes seconds."""
    _kernel(torch.get_num_threads() > 1)
