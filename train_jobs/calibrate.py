"""How far the judge agrees with people: `python -m train_jobs.calibrate --recipe FILE`, or `treadle eval calibrate`.

Turns that people gave thumbs are graded by the judge, as it grades answers to questions, and the grades are ranked against the thumbs:
Spearman's rank correlation with mean ranks for ties (Spearman, The Proof and Measurement of Association between Two Things, 1904; computed
by scipy). Thumbs have two values and grades five, so even a judge that never contradicts anybody stays below 1. It says nothing of
answers unlike those that people judged.
"""

import asyncio
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from cluster import job_run
from cluster.catalog import conversations, signals
from cluster.domain.base import Frozen
from cluster.domain.conversations import Turn
from cluster.domain.recipes import CalibrateRecipe
from cluster.errors import InvalidInput, Unavailable
from cluster.job_run import JobRun
from cluster.ray_lifecycle import connection
from train_jobs.judging import Graded, Judge, open_judge

AT_LEAST = 10
_AGREES, _LEANS = 0.5, 0.3
_SURE = 0.05
_LOOKED_AT = 10_000  # turns, the newest judged: a query names each


class JudgedTurn(Frozen):
    """``thumb`` is the mean of people's thumbs, 0 (down) to 1 (up); ``grade`` 1 to 5."""

    turn_id: str
    thumb: float
    grade: int
    reason: str = ""


def thumbs(job: JobRun, agent: str | None, limit: int) -> list[tuple[Turn, float]]:
    """Turns with thumbs and their mean, the newest judged first. A person's newest thumb on a turn counts. What was answered from
    documents for some only is not shown to a judge."""
    with job.catalog.reading() as work:
        newest: dict[str, dict[str, float]] = defaultdict(dict)
        for signal in signals.thumbs(work):
            newest[signal.turn_id].setdefault(signal.user, 1.0 if signal.value == "up" else 0.0)
        turns = conversations.turns_of(work, list(newest)[:_LOOKED_AT])
    found = [(turns[one], sum(said.values()) / len(said)) for one, said in newest.items() if one in turns]
    found = [pair for pair in found if pair[0].route.sentence is None and not pair[0].restricted]
    return [pair for pair in found if agent is None or pair[0].agent == agent][:limit]


def spearman(people: Sequence[float], grades: Sequence[float]) -> tuple[float, float] | None:
    """Rank correlation and its two-sided p-value; None where one side says the same of everything."""
    if len(set(people)) < 2 or len(set(grades)) < 2:
        return None
    from scipy.stats import spearmanr

    found = spearmanr(people, grades)
    return float(found.statistic), float(found.pvalue)


def meaning(judged: Sequence[JudgedTurn], turns: int) -> dict[str, Any]:
    """``rho`` and ``p`` (None where they cannot be had), ``n``, and what they mean in a sentence. ``turns`` is how many have thumbs."""
    n = len(judged)
    if n < AT_LEAST:
        graded = f"the judge could grade {n} of {turns}" if turns >= AT_LEAST else f"{turns or 'no'} turns have thumbs"
        said = f"Too few turns to say how far the judge agrees with people: {graded}, and {AT_LEAST} are the least."
        return {"rho": None, "p": None, "n": n, "meaning": said}
    found = spearman([one.thumb for one in judged], [float(one.grade) for one in judged])
    if found is None:
        same = "people gave the same thumb to all" if len({one.thumb for one in judged}) < 2 else "the judge graded all alike"
        said = f"Nothing can be said of {n} judged turns: {same}, so there is no ranking to compare."
        return {"rho": None, "p": None, "n": n, "meaning": said}
    rho, p = found
    figures = f"Spearman {rho:+.2f}, p = {p:.2g}, n = {n}"
    if p >= _SURE:
        said = f"The judge's grades may agree with people by chance alone ({figures}); do not rest a decision on them."
    elif rho >= _AGREES:
        said = f"The judge ranks answers much as people do ({figures})."
    elif rho >= _LEANS:
        said = f"The judge leans the way people do, and differs often ({figures}); look at its reasons before trusting it."
    elif rho > 0:
        said = f"The judge agrees with people only a little ({figures}); mend its criteria or take another judge."
    else:
        said = f"The judge ranks answers against people ({figures}); take another judge."
    return {"rho": rho, "p": p, "n": n, "meaning": said}


async def grade_all(judge: Judge, turns: Sequence[tuple[Turn, float]], job: JobRun) -> list[JudgedTurn]:
    """The turns that the judge could grade. Raises Unavailable where it graded none."""
    done, failed, words = 0, 0, "its answers could not be read"

    async def one(turn: Turn, thumb: float) -> JudgedTurn | None:
        nonlocal done, failed, words
        graded = Graded(
            question=turn.question,
            answer=turn.answer,
            passages=tuple(passage.text for passage in turn.passages),
            history=tuple(f"{message.role}: {message.content}" for message in turn.history),
        )
        try:
            grade = await judge.grade(graded)
        except (Unavailable, InvalidInput) as error:
            grade, words = None, error.message
        done, failed = done + 1, failed + (grade is None)
        job.progress(done / (len(turns) + 1), f"{done} of {len(turns)} turns graded")
        return None if grade is None else JudgedTurn(turn_id=turn.id, thumb=thumb, grade=grade.value, reason=grade.reason)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(turn, thumb)) for turn, thumb in turns]
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    finally:
        await judge.close()
    if failed == len(turns):
        raise Unavailable(f"The judge graded none of {failed} turns: {words}")
    return [found for task in tasks if (found := task.result()) is not None]


def run(job: JobRun, recipe: CalibrateRecipe) -> dict[str, Any]:
    """The job's body; the result is kept with the run."""
    turns = thumbs(job, recipe.agent, recipe.limit)
    judge = open_judge(job, recipe.judge, _served(job))
    judged = asyncio.run(grade_all(judge, turns, job)) if len(turns) >= AT_LEAST else []
    return {
        "judge": judge.name,
        "agent": recipe.agent,
        **meaning(judged, len(turns)),
        "turns": len(turns),
        "graded": [one.model_dump(mode="json") for one in judged],
    }


def _served(job: JobRun) -> str | None:
    """The served endpoint's address, where it runs; a judge elsewhere does not need it."""
    try:
        return connection(job.settings).serve
    except Unavailable:
        return None


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; the result is one line of JSON on stdout."""
    return job_run.main("train_jobs.calibrate", CalibrateRecipe, run, argv)


if __name__ == "__main__":
    sys.exit(main())
