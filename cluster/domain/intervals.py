"""What a number of questions allows to be said: intervals of rates, and the sign test of changed answers."""

import math

from cluster.domain.base import Frozen

_Z95 = 1.959963984540054


class Rate(Frozen):
    """``hits`` of ``n``; ``low`` and ``high`` bound the rate with 95 % confidence by Wilson's score interval (Wilson, Probable Inference,
    the Law of Succession, and Statistical Inference, 1927), which holds for few questions and for rates near 0 and 1 too. It takes the
    questions for a random draw of those that will be asked."""

    hits: int
    n: int
    rate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.rate:.1%} ({self.low:.0%} to {self.high:.0%})"


def rate_of(hits: int, n: int) -> Rate:
    """``hits`` of ``n`` (at least 1) with its interval."""
    share, z2 = hits / n, _Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low, high = (0.0 if hits == 0 else centre - half), (1.0 if hits == n else centre + half)
    return Rate(hits=hits, n=n, rate=share, low=max(0.0, low), high=min(1.0, high))


def sign_test(for_it: int, against: int) -> float:
    """One-sided p of the exact sign test: how often a fair coin falls ``for_it`` times or more in ``for_it + against`` throws.

    On pairs of passed and failed it is McNemar's exact test (McNemar, Note on the sampling error of the difference between correlated
    proportions, 1947).
    """
    thrown = for_it + against
    term = total = math.comb(thrown, for_it)
    for heads in range(for_it, thrown):
        term = term * (thrown - heads) // (heads + 1)
        total += term
    return float(total / 2**thrown)


def either_side(better: int, worse: int) -> float:
    """Two-sided p of the exact sign test: how likely so uneven a split of the changed questions is when neither side is better."""
    return min(1.0, 2 * min(sign_test(better, worse), sign_test(worse, better)))
