"""A challenger against the champion on the same questions: `python -m train_jobs.gate --recipe configs/train/gate.yaml`.

Promoted when the lower bound of the paired difference is nowhere below ``-tolerance`` and somewhere above zero. A first release is
compared with ``agent@base``: the same card on the bare base model.

The interval is the percentile interval of the paired bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13;
for systems compared on one test set: Koehn, Statistical Significance Tests for Machine Translation Evaluation, EMNLP 2004). It says
nothing of questions unlike those in the set, and with a handful of questions it says little at all.
"""

import sys
from typing import Any, Literal, Sequence

import numpy as np

from cluster import job_run
from cluster.catalog import releases
from cluster.domain.base import Frozen
from cluster.domain.questions import Evaluation, QuestionSet
from cluster.domain.recipes import GateRecipe
from cluster.domain.releases import CHAMPION
from cluster.domain.versions import split_ref
from cluster.errors import InvalidInput
from cluster.job_run import JobRun
from train_jobs.evaluate import known, measure, question_sets, resolve

RESAMPLES = 10_000
SEED = 7
_SLICE_AT_LEAST = 5  # questions; fewer say nothing of a slice


class Comparison(Frozen):
    """Champion and challenger on one question set; rates 0 to 1, ``interval`` of challenger minus champion."""

    question_set: str
    purpose: str
    n: int
    champion_rate: float
    challenger_rate: float
    difference: float
    interval: tuple[float, float]
    worse_slices: tuple[str, ...] = ()


class Verdict(Frozen):
    verdict: Literal["promote", "keep"]
    reasons: tuple[str, ...]
    comparisons: tuple[Comparison, ...]


def paired_interval(
    champion: Sequence[bool], challenger: Sequence[bool], confidence: float = 0.95, seed: int = SEED
) -> tuple[float, float]:
    """Percentile bootstrap interval of mean(challenger - champion) over paired questions: 10,000 resamples of the questions, seeded.

    A paired difference is -1, 0 or +1, so a resample is a multinomial draw of their counts.
    """
    differences = np.asarray(challenger, dtype=np.int64) - np.asarray(champion, dtype=np.int64)
    n = len(differences)
    shares = np.array([(differences == value).sum() for value in (-1, 0, 1)]) / n
    counts = np.random.default_rng(seed).multinomial(n, shares, size=RESAMPLES)
    means = (counts[:, 2] - counts[:, 0]) / n
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def compare(asked: QuestionSet, champion: Evaluation, challenger: Evaluation, confidence: float = 0.95) -> Comparison:
    """Pair two evaluations question by question. Raises InvalidInput when they are not of the same questions."""
    if champion.set_digest != challenger.set_digest:
        raise InvalidInput(f"The evaluations of '{asked.name}' are of different questions; evaluate both releases again.")
    was = {result.question_id: result.passed for result in champion.results}
    pairs = [(was[result.question_id], result.passed, result.slices) for result in challenger.results]
    before, after = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    worse: list[str] = []
    for name in sorted({slice_ for pair in pairs for slice_ in pair[2]}):
        inside = [pair for pair in pairs if name in pair[2]]
        if len(inside) >= _SLICE_AT_LEAST and paired_interval([p[0] for p in inside], [p[1] for p in inside], confidence)[1] < 0:
            worse.append(name)
    return Comparison(
        question_set=asked.name,
        purpose=asked.purpose,
        n=len(pairs),
        champion_rate=champion.rate,
        challenger_rate=challenger.rate,
        difference=challenger.rate - champion.rate,
        interval=paired_interval(before, after, confidence),
        worse_slices=tuple(worse),
    )


def decide(comparisons: Sequence[Comparison], tolerance: float) -> Verdict:
    """Not worse anywhere and better somewhere → promote; else keep. Each reason is a sentence with set, rates and interval."""
    worse = [one for one in comparisons if one.interval[0] < -tolerance]
    better = [one for one in comparisons if one.interval[0] > 0]
    if worse:
        reasons = [f"{_words(one)}: it may be worse by more than {tolerance:.1%}{_slices(one)}." for one in worse]
    elif better:
        reasons = [f"{_words(one)}: it is better." for one in better]
    else:
        reasons = [f"{_words(one)}: it is not measurably better." for one in comparisons]
    return Verdict(verdict="promote" if better and not worse else "keep", reasons=tuple(reasons), comparisons=tuple(comparisons))


def _words(one: Comparison) -> str:
    low, high = one.interval
    return (
        f"On {one.question_set} (n = {one.n}) the challenger passes {one.challenger_rate:.1%} and the champion {one.champion_rate:.1%}, "
        f"difference {one.difference:+.1%} [{low:+.1%}, {high:+.1%}]"
    )


def _slices(one: Comparison) -> str:
    return f", surely in {', '.join(one.worse_slices)}" if one.worse_slices else ""


def run(job: JobRun, recipe: GateRecipe) -> dict[str, Any]:
    """The job's body: evaluate what has not been evaluated yet, decide, and promote."""
    challenger = resolve(job, recipe.challenger)
    champion = resolve(job, recipe.champion or _present(job, challenger))
    if champion == challenger:
        raise InvalidInput(f"{challenger} is the champion already; there is nothing to compare.")
    sets = question_sets(job, recipe.question_sets)
    total, before = 2 * sum(len(one.questions) for one in sets), 0
    comparisons: list[Comparison] = []
    for asked in sets:
        pair: list[Evaluation] = []
        for release in (champion, challenger):

            def heard(count: int, before: int = before, of: str = release, name: str = asked.name) -> None:
                job.progress((before + count) / (total + 1), f"{of} on {name}: {count} answers")

            found = known(job, release, asked, True) or measure(job, release, asked, True, recipe.concurrency, heard)
            pair.append(found)
            before += len(asked.questions)
        comparisons.append(compare(asked, pair[0], pair[1], recipe.confidence))
    verdict = decide(comparisons, recipe.tolerance)
    promoted = verdict.verdict == "promote" and recipe.promote
    if promoted:
        job.registry.promote(challenger, " ".join(verdict.reasons))
    return {**verdict.model_dump(mode="json"), "champion": champion, "challenger": challenger, "promoted": promoted}


def _present(job: JobRun, challenger: str) -> str:
    agent = split_ref(challenger)[0]
    with job.catalog.reading() as work:
        version = releases.alias(work, agent, CHAMPION)
    return f"{agent}@{version}" if version else f"{agent}@base"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; the result is one line of JSON on stdout."""
    return job_run.main("train_jobs.gate", GateRecipe, run, argv)


if __name__ == "__main__":
    sys.exit(main())
