"""Statistics of two releases on the same questions: bootstrap interval and Holm's correction.

They treat questions as drawn at random from those that matter, and say nothing of questions unlike them.
"""

from typing import Mapping, Sequence

import numpy as np

RESAMPLES = 10_000
SEED = 7


def paired_interval(
    champion: Sequence[bool], challenger: Sequence[bool], confidence: float = 0.95, seed: int = SEED
) -> tuple[float, float]:
    """Percentile bootstrap interval of mean(challenger - champion) over paired questions: 10,000 resamples of the questions, seeded.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13; for systems compared on one test set: Koehn, Statistical
    Significance Tests for Machine Translation Evaluation, EMNLP 2004. A paired difference is -1, 0 or +1, so a resample is a multinomial
    draw of their counts. Where the releases differ on a handful of questions it is too narrow; the sign test is exact there.
    """
    differences = np.asarray(challenger, dtype=np.int64) - np.asarray(champion, dtype=np.int64)
    n = len(differences)
    shares = np.array([(differences == value).sum() for value in (-1, 0, 1)]) / n
    counts = np.random.default_rng(seed).multinomial(n, shares, size=RESAMPLES)
    means = (counts[:, 2] - counts[:, 0]) / n
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p values corrected for looking at all of them (Holm, A simple sequentially rejective multiple test procedure, 1979): the chance
    that any true null hypothesis gets one of ``alpha`` or less is ``alpha`` at most, however they depend on one another."""
    corrected: dict[str, float] = {}
    highest = 0.0
    for place, name in enumerate(sorted(p_values, key=lambda one: p_values[one])):
        highest = max(highest, min(1.0, p_values[name] * (len(p_values) - place)))
        corrected[name] = highest
    return corrected


def telling(differing: int, alpha: float) -> bool:
    """Whether ``differing`` pairs can reach ``alpha`` at all: all of them on one side. The rest need not be corrected for, because which
    they are depends on how many pairs differ and not on which way (Tarone, A modified Bonferroni method for discrete data, 1990)."""
    return differing > 0 and 0.5**differing <= alpha
