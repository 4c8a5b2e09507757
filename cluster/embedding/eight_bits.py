"""Products in 8 bits: a question of twenty tokens is bound by reading the weights, and there are a quarter as many bytes of them.

Weights are rounded by output channel, activations by tensor as they come (``DynamicQuantizeMatMul``). Activations of a few channels are
far larger than the rest and would take the whole range, so a part of their size is moved into the weights first: SmoothQuant (Xiao et
al. 2023), with the largest activations seen on a few texts.
"""

import platform
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

STRENGTH = 0.7
"""SmoothQuant's alpha: how much of the activations' range goes into the weights. Of 0.3 to 0.9 this kept vectors nearest."""

SEEN = (
    "How do I list all files of a directory?",
    "The invoice of March was paid twice; what now?",
    "def add(a, b): return a + b",
    "Every value has one owner at a time, and is dropped when its owner goes out of scope.",
    "Please restart the server in rack 12, it is urgent!",
    "What is the capital of Peru?",
    "Die Katze liegt auf dem Sofa.",
    "SELECT name FROM users WHERE id = 7",
)
"""What activations are measured on."""

_FLAGS = ("avx512_vnni", "avx_vnni", "asimddp")


def pays() -> bool:
    """Whether this processor multiplies 8 bits into 32 in one step: where it does not, it is slower, and on old x86 less exact (Linux
    tells; elsewhere: no)."""
    try:
        said = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return platform.machine() in ("x86_64", "aarch64") and any(flag in said for flag in _FLAGS)


def smoothed(weight: NDArray[np.float32], largest: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The factors for the activations (k,), and the weight (n, k) that gives the same product with them."""
    columns = np.maximum(np.abs(weight).max(axis=0), 1e-5)
    moved = np.maximum(largest, 1e-5) ** STRENGTH / columns ** (1 - STRENGTH)
    moved /= np.exp(np.log(moved).mean())
    return (1 / moved).astype(np.float32), (weight * moved).astype(np.float32)


def rounded(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The weight (n, k) as int8 (k, n), and the size of a step for each output (n,)."""
    steps = np.maximum(np.abs(weight).max(axis=1) / 127, 1e-12).astype(np.float32)
    return np.clip(np.rint(weight / steps[:, None]), -127, 127).astype(np.int8).T, steps
