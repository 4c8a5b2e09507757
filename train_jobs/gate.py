"""A challenger against the champion on the same questions: `python -m train_jobs.gate --recipe configs/train/gate.yaml`.

Asked are the sets that the recipe names (without any: the agent's skill sets), and always the agent's regression sets and the forgetting
and guard sets of the agent and of all agents. A first release is compared with ``agent@base``: the same card on the bare base model.

What it cannot know: questions nobody has written. The verdict says which purposes had none.
"""

import sys
from collections import defaultdict
from typing import Any, Iterator, Sequence

from cluster import job_run
from cluster.catalog import datasets, questions, releases
from cluster.domain.agents import BASE_VERSION, GUARD, RESERVED
from cluster.domain.datasets import Row
from cluster.domain.questions import Evaluation, Purpose, QuestionSet
from cluster.domain.recipes import GateRecipe
from cluster.domain.releases import CHAMPION, Release
from cluster.domain.verdicts import Leak, Verdict
from cluster.domain.versions import split_ref
from cluster.errors import Conflict, InvalidInput, NotFound
from cluster.job_run import JobRun
from train_jobs import leakage
from train_jobs.compare import compare, decide
from train_jobs.evaluate import known, measure, question_sets, resolve

_ALWAYS: tuple[Purpose, ...] = ("regression", "forgetting", "guard")
_PASSED, _WAIVED = "passed the gate: ", "waived: "  # how the reason of a promotion begins
_ROUNDS = 2  # comparisons, should the champion change during the first


def run(job: JobRun, recipe: GateRecipe) -> dict[str, Any]:
    """The job's body: evaluate what has not been evaluated yet, decide, and promote.

    Promoted is only over the champion that was compared with. When it was replaced meanwhile, the comparison is repeated once with
    the new one. A waiver promotes whatever the verdict, but never a release whose bytes are not those that were registered.
    """
    with job.catalog.reading() as work:
        challenger = releases.get(work, recipe.challenger)
    _verify(job, challenger)
    sets, missing = gather(job, challenger.agent, recipe.question_sets)
    leaks, notes = leaked(job, challenger, sets)
    notes += [f"There is no {purpose} set for {challenger.agent}: nothing is known of that." for purpose in missing]
    compared: list[str] = []
    while True:
        champion = resolve(job, recipe.champion or _present(job, challenger.agent))
        before = _promoted_before(job, challenger) if champion == challenger.ref else None
        if champion == challenger.ref and before is None:
            raise InvalidInput(f"{challenger.ref} is the champion already; there is nothing to compare.")
        champion = before or champion
        compared.append(champion)
        found = _judge(job, recipe, (champion, challenger.ref), sets, leaks)
        verdict = found.model_copy(
            update={"notes": (*found.notes, *notes), "missing": missing, "champion": champion, "challenger": challenger.ref}
        )
        if before:
            verdict = _told(recipe, verdict)
            break
        if not recipe.promote or (verdict.verdict == "keep" and recipe.waive is None):
            break
        try:
            verdict = _promote(job, recipe, challenger, verdict)
            break
        except Conflict as moved:
            if len(compared) == _ROUNDS or resolve(job, recipe.champion or _present(job, challenger.agent)) == champion:
                verdict = verdict.model_copy(update={"verdict": "keep", "reasons": (moved.message, *verdict.reasons)})
                break
    job.registry.record_verdict(challenger, verdict)
    return verdict.model_dump(mode="json")


def gather(job: JobRun, agent: str, names: Sequence[str]) -> tuple[list[QuestionSet], tuple[Purpose, ...]]:
    """The question sets for a challenger of ``agent``, and the purposes that have none.

    Raises InvalidInput when there is nothing to ask, when a set judges routes, and for the router.
    """
    if agent in RESERVED:
        what, job_name = ("guard's classifier", "guard_head") if agent == GUARD else ("router head", "router_head")
        raise InvalidInput(f"A {what} is judged where it is trained (train_jobs.{job_name}); the gate is for agents' releases.")
    with job.catalog.reading() as work:
        everything = questions.sets(work)
    chosen = question_sets(job, names)
    if not names:
        chosen = [one for one in everything if one.purpose == "skill" and one.agent == agent]
    for one in chosen:
        if one.purpose == "routing":
            raise InvalidInput(
                f"Question set '{one.name}' judges routes and says nothing of a release of '{agent}'; leave it out."
            )
    taken = {one.name for one in chosen}
    own = [one for one in everything if one.purpose in _ALWAYS and one.name not in taken]
    chosen += [one for one in own if one.agent == agent or (one.agent is None and one.purpose != "regression")]
    if not chosen:
        raise InvalidInput(
            f"There is no question set of purpose skill for '{agent}'; put one into the catalog: treadle eval add FILE."
        )
    present = {one.purpose for one in chosen}
    return chosen, tuple(purpose for purpose in ("skill", *_ALWAYS) if purpose not in present)


def leaked(job: JobRun, challenger: Release, sets: Sequence[QuestionSet]) -> tuple[dict[str, list[Leak]], list[str]]:
    """``{set: its questions that stand in the challenger's training rows}``, and sentences on what was not looked at.

    All datasets of the release count, and so those of the releases it continued. Regression sets are exempt: their questions are the
    corrections that people made, which are training rows on purpose.
    """
    notes = [
        f"{one.name} was not checked for leaks: corrections become training rows and regression questions on purpose."
        for one in sets
        if one.purpose == "regression"
    ]
    checked = [one for one in sets if one.purpose != "regression"]
    asked = {f"{one.name}#{question.id}": (one.name, question) for one in checked for question in one.questions}
    by_place = [question.model_copy(update={"id": place}) for place, (_, question) in asked.items()]
    found: dict[str, list[Leak]] = defaultdict(list)
    for place, match in leakage.find(by_place, _rows(job, challenger, notes)).items():
        name, question = asked[place]
        found[name].append(Leak(question_id=question.id, source=match.source, share=match.share, slices=question.slices))
    return dict(found), notes


def _rows(job: JobRun, release: Release, notes: list[str]) -> Iterator[tuple[str, Row]]:
    for digest in release.datasets:
        try:
            with job.catalog.reading() as work:
                dataset = datasets.get(work, digest)
            rows = job.artifacts.read_rows(dataset.uri)
        except NotFound:
            notes.append(f"The rows of dataset {digest[:12]} are gone, so they were not checked for leaks.")
            continue
        for row in rows:
            yield dataset.ref, row


def _judge(
    job: JobRun, recipe: GateRecipe, pair: tuple[str, str], sets: Sequence[QuestionSet], leaks: dict[str, list[Leak]]
) -> Verdict:
    total, before = 2 * sum(len(one.questions) for one in sets), 0
    comparisons = []
    for asked in sets:
        measured: list[Evaluation] = []
        for release in pair:

            def heard(count: int, before: int = before, of: str = release, name: str = asked.name) -> None:
                job.progress((before + count) / (total + 1), f"{of} on {name}: {count} answers")

            found = known(job, release, asked, True) or measure(job, release, asked, True, recipe.concurrency, heard)
            measured.append(found)
            before += len(asked.questions)
        comparisons.append(compare(asked, measured[0], measured[1], recipe.confidence, leaks.get(asked.name, ())))
    return decide(comparisons, recipe.tolerance, recipe.confidence, recipe.max_leaked)


def _promote(job: JobRun, recipe: GateRecipe, challenger: Release, verdict: Verdict) -> Verdict:
    """Raises Conflict when the champion is not the one compared with, and IntegrityError when the adapter's bytes have changed."""
    _verify(job, challenger)
    why = " ".join(verdict.reasons)
    told = _told(recipe, verdict)
    version = split_ref(verdict.champion)[1]
    expected = None if version == BASE_VERSION else version
    reason = f"{_WAIVED}{told.waived} (the gate said keep: {why})" if told.waived else f"{_PASSED}{why}"
    job.registry.promote(challenger.ref, reason, expected=expected)
    return told


def _told(recipe: GateRecipe, verdict: Verdict) -> Verdict:
    """The verdict on a challenger that is promoted."""
    waived = recipe.waive if verdict.verdict == "keep" else None
    notes = verdict.notes if waived or not recipe.waive else (*verdict.notes, "The waiver was not needed.")
    return verdict.model_copy(update={"promoted": True, "waived": waived, "notes": notes})


def _promoted_before(job: JobRun, challenger: Release) -> str | None:
    """The champion that an attempt of this run, killed before it could say so, put the challenger in the place of."""
    with job.catalog.reading() as work:
        moves = releases.moves(work, challenger.agent)
    last = moves[-1] if moves else None
    ours = last and last.after == challenger.version and last.reason.startswith((_PASSED, _WAIVED))
    if last is None or not ours or last.moved_at < job.run.created_at:
        return None
    return f"{challenger.agent}@{last.before or BASE_VERSION}"


def _verify(job: JobRun, release: Release) -> None:
    job.artifacts.fetch(release.adapter_uri, release.adapter_digest)


def _present(job: JobRun, agent: str) -> str:
    with job.catalog.reading() as work:
        version = releases.alias(work, agent, CHAMPION)
    return f"{agent}@{version}" if version else f"{agent}@{BASE_VERSION}"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; the result is one line of JSON on stdout."""
    return job_run.main("train_jobs.gate", GateRecipe, run, argv)


if __name__ == "__main__":
    sys.exit(main())
