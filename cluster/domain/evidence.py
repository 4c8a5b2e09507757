"""Evidence that may be looked at after every answer: tests and bounds that hold however often one looks, and whenever one stops.

Each test is a wealth that, while there is no difference, has no expected growth; that it ever reaches 1/alpha then has probability alpha
at most (Ville's inequality). All of them are of one side and give the largest natural logarithm the wealth has had.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.int64]
_PRIOR = 0.18
"""Both shapes of the beta prior of each rate, with which the regret is least for blocks of one and one (Turner, Ly and Grünwald)."""


def more_often(challenger: Sequence[int] | Bits, events: Sequence[int] | Bits) -> float:
    """That events are more frequent where ``challenger`` is 1 than where it is 0: log of the largest wealth, 0 with none.

    Both are 0 or 1 for each observation, in the order in which they came. Turner, Ly and Grünwald, Generic E-variables for exact
    sequential k-sample tests that allow for optional stopping (J. Statist. Plann. Inference 230, 2024): observations are taken block by
    block, and a block's factor is its likelihood under the two rates estimated from the blocks before it, over that under their mean,
    weighted by how many observations each has in the block. A block ends with the first observation that is not of the side it began
    with, so that both sides of a block are of the same time: rates may drift. It counts only where the challenger's estimate is the
    higher one, so that the test also holds when the challenger's rate is the lower one. Observations are taken to be independent, and
    their sides to be drawn without regard to their outcome.
    """
    sides, happened = np.asarray(challenger, dtype=np.int64), np.asarray(events, dtype=np.int64)
    starts = _blocks(sides)
    if len(starts) < 2:
        return 0.0
    sides, happened = sides[: starts[-1]], happened[: starts[-1]]
    n1, n2 = (np.add.reduceat(one, starts[:-1]) for one in (1 - sides, sides))
    hits1, hits2 = (np.add.reduceat(happened * one, starts[:-1]) for one in (1 - sides, sides))
    rate1, rate2 = _estimates(hits1, n1), _estimates(hits2, n2)
    both = (n1 * rate1 + n2 * rate2) / (n1 + n2)
    factor = _log_likelihood(hits1, n1, rate1) + _log_likelihood(hits2, n2, rate2) - _log_likelihood(hits1 + hits2, n1 + n2, both)
    return max(0.0, float(np.cumsum(np.where(rate2 > rate1, factor, 0.0)).max()))


def _blocks(sides: Bits) -> Bits:
    """Where each whole block starts, and where the last one ends."""
    changes = np.flatnonzero(np.diff(sides)) + 1
    starts = [0]
    for change in changes.tolist():
        if change > starts[-1]:  # a change at its start is no change inside it
            starts.append(change + 1)
    return np.asarray(starts, dtype=np.int64)


def _estimates(hits: Bits, sizes: Bits) -> NDArray[np.float64]:
    """A rate before each block."""
    before, seen = (np.concatenate(([0], np.cumsum(one)[:-1])) for one in (hits, sizes))
    found: NDArray[np.float64] = (_PRIOR + before) / (2 * _PRIOR + seen)
    return found


def _log_likelihood(hits: Bits, sizes: Bits, rate: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = hits * np.log(rate) + (sizes - hits) * np.log1p(-rate)
    return found


def more_heads(throws: Sequence[int] | Bits) -> float:
    """That a coin falls on heads (1) more often than on tails: log of the largest wealth, 0 with none.

    For pairs of which exactly one failed: heads are those that the challenger failed. Each throw is bet on with the share of heads so far
    (Krichevsky and Trofimov's estimate), and only while it is above a half: Robbins, Statistical methods related to the law of the
    iterated logarithm (Ann. Math. Statist. 41, 1970), with estimates in the place of the mixture.
    """
    if len(throws) == 0:
        return 0.0
    fell = np.asarray(throws, dtype=np.int64)
    before = np.concatenate(([0], np.cumsum(fell)[:-1]))
    share = np.maximum(0.5, (before + 0.5) / (np.arange(len(fell)) + 1))
    return max(0.0, float(np.cumsum(np.log(2 * np.where(fell == 1, share, 1 - share))).max()))


def p_value(wealth: float) -> float:
    """From a log wealth: below alpha exactly when the wealth has reached 1/alpha."""
    return min(1.0, math.exp(-wealth))


def bounds(hits: int, n: int, alpha: float) -> tuple[float, float]:
    """Between what a rate lies, with confidence 1 - ``alpha`` at all times together.

    The rates that a mixture of all others does not beat by 1/alpha (Robbins 1970, with Jeffreys' beta(1/2, 1/2) as the mixture). Wider than
    an interval for one look: about 1.6 times at a hundred observations. Takes observations to be independent and of one rate.
    """
    if n == 0:
        return 0.0, 1.0
    mixture = math.lgamma(hits + 0.5) + math.lgamma(n - hits + 0.5) - math.lgamma(n + 1) - math.log(math.pi)
    least = mixture + math.log(alpha)

    def inside(rate: float) -> bool:
        likelihood = (hits * math.log(rate) if hits else 0.0) + ((n - hits) * math.log1p(-rate) if n > hits else 0.0)
        return likelihood > least

    share = min(max(hits / n, 1e-12), 1 - 1e-12)
    return (0.0 if hits == 0 else _edge(inside, share, 0.0)), (1.0 if hits == n else _edge(inside, share, 1.0))


def _edge(inside: Callable[[float], bool], start: float, end: float) -> float:
    for _ in range(60):
        middle = (start + end) / 2
        if 0.0 < middle < 1.0 and inside(middle):
            start = middle
        else:
            end = middle
    return end


def median_of(values: Sequence[float]) -> tuple[float, float, float]:
    """The median of at least one value, and between what the true one lies with 95 % confidence at one look: between two of the values,
    whatever the distribution (David and Nagaraja, Order Statistics, 2003, section 7.1, by the normal approximation)."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    half = 0.5 * 1.959963984540054 * math.sqrt(n)
    low, high = max(0, math.floor(n / 2 - half)), min(n - 1, math.ceil(n / 2 + half))
    return float(np.median(ordered)), float(ordered[low]), float(ordered[high])
