"""Champion and challenger on one question set, pair by pair and slice by slice; and what all sets together say."""

from typing import Collection, Sequence

from cluster.domain.intervals import either_side, sign_test
from cluster.domain.questions import Evaluation, QuestionSet
from cluster.domain.verdicts import Comparison, Leak, SliceComparison, Verdict
from cluster.errors import InvalidInput
from train_jobs.paired import holm, paired_interval, telling

INTERVAL_AT_LEAST = 5  # questions; below it an interval says nothing
STRICT = ("regression", "guard")  # purposes where no question may break
_SLICE_AT_LEAST = 5
_NAMED = 5  # questions or slices that a sentence names

Pair = tuple[str, bool, bool, tuple[str, ...]]


def compare(
    asked: QuestionSet,
    champion: Evaluation,
    challenger: Evaluation,
    confidence: float = 0.95,
    leaks: Collection[Leak] = (),
) -> Comparison:
    """Pair two evaluations question by question, without the leaked questions and those that went without an answer (which says
    nothing of a release).

    Raises InvalidInput when they are not of the same questions.
    """
    if champion.set_digest != challenger.set_digest:
        raise InvalidInput(f"The evaluations of '{asked.name}' are of different questions; evaluate both releases again.")
    was = {result.question_id: result for result in champion.results}
    leaked = {leak.question_id for leak in leaks}
    left = [result for result in challenger.results if result.question_id not in leaked]
    silent = {one.question_id for one in left if not (one.answered and was[one.question_id].answered)}
    pairs: list[Pair] = [
        (one.question_id, was[one.question_id].passed, one.passed, one.slices) for one in left if one.question_id not in silent
    ]
    before, after = [pair[1] for pair in pairs], [pair[2] for pair in pairs]
    fixed, broken = _differing(pairs)
    slices = _slices(pairs, (1 - confidence) / 2)
    rates = [sum(passed) / max(1, len(pairs)) for passed in (before, after)]
    return Comparison(
        question_set=asked.name,
        purpose=asked.purpose,
        n=len(pairs),
        champion_rate=rates[0],
        challenger_rate=rates[1],
        difference=rates[1] - rates[0],
        interval=paired_interval(before, after, confidence) if len(pairs) >= INTERVAL_AT_LEAST else None,
        p=either_side(len(fixed), len(broken)),
        p_better=sign_test(len(fixed), len(broken)),
        p_worse=sign_test(len(broken), len(fixed)),
        slices=slices,
        worse_slices=tuple(one.name for one in slices if one.worse),
        broken=broken,
        fixed=fixed,
        leaked=tuple(leaks),
        unanswered=tuple(one.question_id for one in left if one.question_id in silent),
    )


def _differing(pairs: Sequence[Pair]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ids of the questions that only the challenger passes, and of those that only the champion passes."""
    fixed = tuple(name for name, before, after, _ in pairs if after and not before)
    return fixed, tuple(name for name, before, after, _ in pairs if before and not after)


def _slices(pairs: Sequence[Pair], alpha: float) -> tuple[SliceComparison, ...]:
    """Slices of five questions or more. Worse is what Holm's correction over the slices that can reach ``alpha`` leaves of the tests."""
    groups = {name: [pair for pair in pairs if name in pair[3]] for name in sorted({one for pair in pairs for one in pair[3]})}
    groups = {name: inside for name, inside in groups.items() if len(inside) >= _SLICE_AT_LEAST}
    counts = {name: tuple(len(side) for side in _differing(inside)) for name, inside in groups.items()}
    tested = {name: sign_test(lost, won) for name, (won, lost) in counts.items() if telling(won + lost, alpha)}
    corrected = holm(tested)
    return tuple(
        SliceComparison(
            name=name,
            n=len(inside),
            champion_passed=sum(pair[1] for pair in inside),
            challenger_passed=sum(pair[2] for pair in inside),
            won=counts[name][0],
            lost=counts[name][1],
            p_worse=corrected.get(name, 1.0),
            worse=corrected.get(name, 1.0) <= alpha,
        )
        for name, inside in groups.items()
    )


def decide(comparisons: Sequence[Comparison], tolerance: float, confidence: float = 0.95, max_leaked: float = 0.05) -> Verdict:
    """Not worse anywhere and better somewhere → promote; else keep.

    Worse is a set whose interval reaches below ``-tolerance``, a slice that surely lost, a broken question of a regression or guard set
    (or of a set too small for an interval), and a set of which more than ``max_leaked`` (a share) was met in training. Better is a set
    whose interval and whose sign test, corrected by Holm's method over the sets, both say so: with a handful of differing questions the
    interval alone promises too much. Each reason is a sentence.
    """
    failed = [reason for one in comparisons for reason in _failures(one, tolerance, max_leaked)]
    alpha = (1 - confidence) / 2
    corrected = holm({one.question_set: one.p_better for one in comparisons if telling(len(one.fixed) + len(one.broken), alpha)})
    better = [
        one
        for one in comparisons
        if one.interval is not None and one.interval[0] > 0 and corrected.get(one.question_set, 1.0) <= alpha
    ]
    if failed:
        reasons = failed
    elif better:
        reasons = [f"{_words(one)}: it is better." for one in better]
    else:
        reasons = [f"{_words(one)}: it is not measurably better." for one in comparisons]
    return Verdict(
        verdict="promote" if better and not failed else "keep",
        reasons=tuple(reasons),
        comparisons=tuple(comparisons),
        notes=tuple(note for one in comparisons for note in _notes(one)),
    )


def _failures(one: Comparison, tolerance: float, max_leaked: float) -> list[str]:
    failed: list[str] = []
    if len(one.unanswered) > max_leaked * one.asked:
        failed.append(
            f"On {one.question_set} {len(one.unanswered)} of {one.asked} questions went without an answer, more than "
            f"{max_leaked:.1%} of them: run the gate again."
        )
    if len(one.leaked) > max_leaked * one.asked:
        failed.append(f"{_leaked(one)}, more than {max_leaked:.1%} of them: the set cannot judge it.")
    by_question = one.purpose in STRICT or one.interval is None
    if by_question and one.broken:
        failed.append(
            f"On {one.question_set} (n = {one.n}, where no question may break) the challenger fails what the champion passes: "
            f"{_some(one.broken)}."
        )
    elif not by_question and one.interval is not None and one.interval[0] < -tolerance:
        certain = "is worse" if one.interval[1] < 0 else f"may be worse by more than {tolerance:.1%}"
        failed.append(f"{_words(one)}: it {certain}{_where(one)}.")
    elif not by_question and one.worse_slices:
        failed.append(f"{_words(one)}: within {tolerance:.1%}, but it is worse{_where(one)}.")
    return failed


def _words(one: Comparison) -> str:
    said = (
        f"On {one.question_set} (n = {one.n}) the challenger passes {one.challenger_rate:.1%} and the champion {one.champion_rate:.1%}, "
        f"difference {one.difference:+.1%}"
    )
    if one.interval is None:
        return said
    low, high = one.interval
    return f"{said} [{low:+.1%}, {high:+.1%}], sign test p = {one.p:.2g}"


def _where(one: Comparison) -> str:
    """The slices that surely lost; without any, those that lost most."""
    worse = [slice_ for slice_ in one.slices if slice_.worse]
    if not worse:
        lost = [slice_ for slice_ in one.slices if slice_.lost > slice_.won]
        worse = sorted(lost, key=lambda slice_: slice_.won - slice_.lost)
    named = [f"{one.name} ({one.challenger_passed} of {one.n} passed, {one.champion_passed} before)" for one in worse]
    if not named:
        return ""
    return f", {'surely' if one.worse_slices else 'most'} in {_some(named)}"


def _leaked(one: Comparison) -> str:
    counts: dict[str, int] = {}
    for leak in one.leaked:
        for name in leak.slices:
            counts[name] = counts.get(name, 0) + 1
    slices = _some([f"{name} {count}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1])])
    rows = _some([f"{leak.question_id} ↔ {leak.source}" for leak in one.leaked], 3)
    inside = f" (slices: {slices})" if slices else ""
    return f"On {one.question_set} {len(one.leaked)} of {one.asked} questions stand in the challenger's training rows{inside}: {rows}"


def _notes(one: Comparison) -> list[str]:
    notes: list[str] = []
    if one.leaked:
        notes.append(f"{_leaked(one)}; they were left out of the comparison.")
    if one.unanswered:
        notes.append(f"On {one.question_set} {len(one.unanswered)} questions went without an answer and were left out.")
    if one.interval is None and one.purpose not in STRICT:
        notes.append(f"{one.question_set} has {one.n} questions to compare, too few for an interval: each counts alone.")
    if one.purpose == "regression" and one.fixed:
        notes.append(f"On {one.question_set} the challenger passes {len(one.fixed)} that the champion fails: {_some(one.fixed)}.")
    return notes


def _some(names: Sequence[str], most: int = _NAMED) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
