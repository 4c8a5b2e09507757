"""What an experiment shows so far, and what follows from it. Pure functions of what was counted.

The unit is the conversation: its turns have one side, one user and mostly one subject, so they are not independent, and only the first
one (the first thumb, for thumbs) goes into tests and bounds. Totals count every turn. A shadow's rules are compared question by question.
"""

from collections.abc import Sequence
from typing import Literal

from cluster.domain.base import Frozen
from cluster.domain.evidence import bounds, median_of, more_heads, more_often, p_value
from cluster.domain.experiments import Arm, Experiment, JudgedTurn, Metric, Trial

Finding = Literal["worse", "better", "not_worse", "open"]
ARMS: tuple[Arm, ...] = ("champion", "challenger")
_NAMES: dict[Metric, str] = {"validation": "failed validations", "errors": "errors", "thumbs": "thumbs down"}


class Share(Frozen):
    """``hits`` of ``n`` first turns; ``low`` and ``high`` bound the rate at every look together. Without any: rate None."""

    hits: int
    n: int
    rate: float | None
    low: float
    high: float


class Seconds(Frozen):
    """The median of an answer's seconds, with its bounds at one look (95 %)."""

    p50: float
    low: float
    high: float


class ArmTotals(Frozen):
    """Everything that was counted of one side."""

    release: str
    turns: int
    conversations: int
    thumbs_up: int
    thumbs_down: int
    failed_validations: int
    errors: int
    seconds: Seconds | None


class MetricFound(Frozen):
    """One metric on both sides; rates of bad ones, so lower is better. ``p_worse`` and ``p_better`` may be read at any time."""

    metric: Metric
    champion: Share
    challenger: Share
    p_worse: float
    p_better: float
    finding: Finding


class ExperimentResults(Frozen):
    """``finding`` over all watched metrics: worse when one is; better or not_worse when none is open. ``because`` says it in a sentence.

    ``unpaired``: questions of a shadow that the challenger was not asked (dropped while the engine was busy, or under way).
    """

    experiment: Experiment
    champion: ArmTotals
    challenger: ArmTotals
    metrics: tuple[MetricFound, ...]
    finding: Finding
    because: str
    unpaired: int = 0


def results(experiment: Experiment, trials: Sequence[Trial], thumbs: Sequence[JudgedTurn]) -> ExperimentResults:
    """``trials`` and ``thumbs`` in the order in which they came. Trials of a release that was not there from the beginning are left out."""
    releases = {"champion": experiment.champion, "challenger": experiment.challenger}
    counted = [one for one in trials if one.release == releases[one.arm]]
    totals = {arm: _totals(arm, releases[arm], counted, thumbs) for arm in ARMS}
    found = tuple(_metric(experiment, metric, counted, thumbs) for metric in experiment.watched)
    finding, because = _over_all(experiment, found)
    paired = {one.shadow_of for one in counted if one.shadow_of}
    left = sum(one.arm == "champion" and not one.error and one.id not in paired for one in counted)
    return ExperimentResults(
        experiment=experiment,
        champion=totals["champion"],
        challenger=totals["challenger"],
        metrics=found,
        finding=finding,
        because=because,
        unpaired=left if experiment.kind == "shadow" else 0,
    )


def _totals(arm: Arm, release: str, trials: Sequence[Trial], thumbs: Sequence[JudgedTurn]) -> ArmTotals:
    own = [one for one in trials if one.arm == arm]
    seconds = [one.seconds for one in own if one.seconds is not None and not one.error]
    newest = {one.turn: one.down for one in thumbs if one.arm == arm}
    return ArmTotals(
        release=release,
        turns=sum(not one.error for one in own),
        conversations=len({one.conversation for one in own}),
        thumbs_up=sum(not down for down in newest.values()),
        thumbs_down=sum(newest.values()),
        failed_validations=sum(one.failed for one in own),
        errors=sum(one.error for one in own),
        seconds=Seconds(**dict(zip(("p50", "low", "high"), median_of(seconds), strict=True))) if seconds else None,
    )


def _metric(experiment: Experiment, metric: Metric, trials: Sequence[Trial], thumbs: Sequence[JudgedTurn]) -> MetricFound:
    firsts = _firsts(metric, trials, thumbs)
    bad = {arm: [event for side, event in firsts if side == arm] for arm in ARMS}
    if experiment.kind == "shadow" and metric == "validation":
        throws = _unequal(trials)
        worse, better = more_heads(throws), more_heads([1 - one for one in throws])
    else:
        # A question that the champion could not answer is asked of nobody else: errors of a shadow are no pairs.
        sides, events = [int(side == "challenger") for side, _ in firsts], [event for _, event in firsts]
        worse, better = more_often(sides, events), more_often([1 - side for side in sides], events)
    alpha = experiment.settings.alpha
    shares = {arm: _share(bad[arm], alpha) for arm in ARMS}
    level = alpha / len(experiment.watched)
    finding: Finding = "open"
    if p_value(worse) <= level:
        finding = "worse"
    elif p_value(better) <= level:
        finding = "better"
    elif _within(bad["champion"], bad["challenger"], experiment.settings.tolerance, level):
        finding = "not_worse"
    return MetricFound(metric=metric, **shares, p_worse=p_value(worse), p_better=p_value(better), finding=finding)


def _firsts(metric: Metric, trials: Sequence[Trial], thumbs: Sequence[JudgedTurn]) -> list[tuple[Arm, int]]:
    """The side of each conversation and what became of its first turn, 1 for bad, in the order in which they came."""
    first: dict[tuple[str, Arm], int] = {}
    if metric == "thumbs":
        for thumb in thumbs:
            first.setdefault((thumb.conversation, thumb.arm), int(thumb.down))
    else:
        for one in trials:
            if metric == "errors" or not one.error:
                first.setdefault((one.conversation, one.arm), int(one.error if metric == "errors" else one.failed))
    return [(arm, bad) for (_, arm), bad in first.items()]


def _unequal(trials: Sequence[Trial]) -> list[int]:
    """Of the questions that both answered, those of which one answer broke a rule: 1 where it was the challenger's."""
    asked = {one.id: one for one in trials if one.arm == "champion"}
    pairs = [(one, asked[one.shadow_of]) for one in trials if one.shadow_of in asked and not one.error]
    return [int(shadow.failed) for shadow, champion in pairs if shadow.failed != champion.failed]


def _share(bad: Sequence[int], alpha: float) -> Share:
    low, high = bounds(sum(bad), len(bad), alpha)
    return Share(hits=sum(bad), n=len(bad), rate=sum(bad) / len(bad) if bad else None, low=low, high=high)


def _within(champion: Sequence[int], challenger: Sequence[int], tolerance: float, level: float) -> bool:
    """Whether the challenger's rate is proved to be no more than ``tolerance`` above the champion's."""
    return (
        bounds(sum(challenger), len(challenger), level / 2)[1] - bounds(sum(champion), len(champion), level / 2)[0] <= tolerance
    )


def _over_all(experiment: Experiment, found: Sequence[MetricFound]) -> tuple[Finding, str]:
    worse = next((one for one in found if one.finding == "worse"), None)
    if worse is not None:
        return "worse", f"{experiment.challenger} has {_words(worse)}"
    still = [_NAMES[one.metric] for one in found if one.finding == "open"]
    if still:
        return "open", f"nothing is proved yet of {' and '.join(still)}"
    better = next((one for one in found if one.finding == "better"), None)
    if better is not None:
        return "better", f"{experiment.challenger} has {_words(better)}"
    return "not_worse", f"{experiment.challenger} is worse by no more than {experiment.settings.tolerance:g} in any metric"


def _words(one: MetricFound) -> str:
    """Two rates and how sure their difference is."""
    p = one.p_worse if one.finding == "worse" else one.p_better
    mine, theirs = (f"{share.hits} of {share.n} ({share.rate or 0.0:.0%})" for share in (one.challenger, one.champion))
    more = "more" if one.finding == "worse" else "fewer"
    return f"{more} {_NAMES[one.metric]}: {mine} where the champion has {theirs}, p {p:.2g}"
