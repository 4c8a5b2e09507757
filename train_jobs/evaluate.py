"""A release on question sets: `python -m train_jobs.evaluate --recipe configs/train/evaluate.yaml`.

Measures what a client would get: prompt, retrieval, adapter and decoding as they are served, through the served endpoint, or through the
same application on an engine of the job's own (``engine: offline``). Turns are not recorded, so that questions never leak into
conversations and from there into training data. Answers are journaled: a run that is killed and taken up again asks what is missing.
"""

import asyncio
import contextlib
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from cluster import job_run
from cluster.access import own_key
from cluster.base_model import base_of
from cluster.catalog import agents, questions, releases
from cluster.domain.agents import BASE_VERSION
from cluster.domain.base import digest_of
from cluster.domain.questions import Evaluation, QuestionResult, QuestionSet
from cluster.domain.recipes import EvaluateRecipe
from cluster.domain.versions import split_ref
from cluster.errors import InvalidInput
from cluster.evaluation_page import page
from cluster.evaluation_report import Reporter
from cluster.job_run import JobRun
from cluster.ray_lifecycle import connection
from cluster.tls import trust
from train_jobs.answers_journal import AnswersJournal
from train_jobs.asking import TIMEOUT_SECONDS, Asker
from train_jobs.offline import offline_address
from train_jobs.scoring import Scorer, graders

log = logging.getLogger(__name__)
AUTO = "auto"
Heard = Callable[[int], None]


def measure(job: JobRun, release: str, asked: QuestionSet, retrieve: bool, concurrency: int, heard: Heard) -> Evaluation:
    """Ask a question set through the served endpoint and record the evaluation; ``heard`` gets the count of answers so far."""
    recipe = EvaluateRecipe(release=release, question_sets=(asked.name,), retrieve=retrieve, concurrency=concurrency)
    return measure_at(connection(job.settings).serve, job, asked, recipe, heard)


def measure_at(address: str, job: JobRun, asked: QuestionSet, recipe: EvaluateRecipe, heard: Heard) -> Evaluation:
    """Ask a question set at an address and record the evaluation. One that this run recorded before it was cut short is returned as it
    is; answers that it had journaled are not asked for again."""
    options = _options(job, asked, recipe)
    way = [recipe.release, asked.digest, options]
    evaluation_id = "eval_" + digest_of([job.run.id, asked.name, *way])[:20]
    with job.catalog.reading() as work:
        done = questions.find(work, evaluation_id)
    if done is not None:
        return done
    # What answers under a version never changes; the base answers with a card, and the router with agents, that may.
    key = digest_of(way if split_ref(recipe.release)[1] not in (None, BASE_VERSION) else [job.run.id, *way])[:32]
    journal = AnswersJournal(job.settings.home / "work" / "evaluate", key, job.run.id)
    whole = False
    try:
        results = asyncio.run(_results(address, job, asked, recipe, journal, heard))
        evaluation = Evaluation(
            id=evaluation_id,
            release=recipe.release,
            question_set=asked.name,
            set_digest=asked.digest,
            options=options,
            results=results,
        )
        with job.catalog.transaction() as work:
            questions.record(work, evaluation)
        whole = True
    finally:
        journal.close(done=whole)
    return evaluation


async def _results(
    address: str, job: JobRun, asked: QuestionSet, recipe: EvaluateRecipe, journal: AnswersJournal, heard: Heard
) -> tuple[QuestionResult, ...]:
    missing = [question for question in asked.questions if question.id not in journal.results]
    count = len(asked.questions) - len(missing)

    def hear(result: QuestionResult) -> None:
        nonlocal count
        journal.add(result)
        count += 1
        heard(count)

    headers = {"Authorization": f"Bearer {own_key(job.settings, job.catalog)}"}
    limits = httpx.Limits(max_connections=recipe.concurrency)
    scorer = Scorer(job, recipe.judge, address)
    try:
        async with httpx.AsyncClient(
            base_url=address, headers=headers, timeout=TIMEOUT_SECONDS, limits=limits, verify=trust(job.settings)
        ) as client:
            new = await Asker(client, recipe.release, recipe.retrieve, scorer).ask_all(missing, recipe.concurrency, hear)
    finally:
        await scorer.close()
    found = {**journal.results, **{result.question_id: result for result in new}}
    return tuple(found[question.id] for question in asked.questions)


def _options(job: JobRun, asked: QuestionSet, recipe: EvaluateRecipe) -> dict[str, str | int | float | bool]:
    """The way of asking and judging: only evaluations with equal ones compare."""
    own = {"engine": recipe.engine} if recipe.engine != "served" else {}
    return {"retrieve": recipe.retrieve, **own, **graders(job, asked, recipe.judge)}


def known(job: JobRun, release: str, asked: QuestionSet, retrieve: bool) -> Evaluation | None:
    """An earlier evaluation of the same release on the same questions, judged by the same models. Never of ``agent@base``: its card may
    have changed since; and never one with questions that got no answer."""
    if split_ref(release)[1] in (None, BASE_VERSION):
        return None
    recipe = EvaluateRecipe(release=release, question_sets=(asked.name,), retrieve=retrieve)
    graded = graders(job, asked, recipe.judge)
    with job.catalog.reading() as work:
        for one in questions.of_release(work, release):
            same = one.question_set == asked.name and one.set_digest == asked.digest and not one.unanswered
            if same and one.options.get("retrieve", True) == retrieve and graded.items() <= one.options.items():
                return one
    return None


def resolve(job: JobRun, ref: str) -> str:
    """The name that is asked for: ``agent`` becomes its champion's ``agent@version``. Raises NotFound for what is not there."""
    agent, version = split_ref(ref)
    if ref == AUTO:
        return ref
    with job.catalog.reading() as work:
        if version == BASE_VERSION:
            agents.get(work, agent)
            return ref
        return releases.get(work, ref).ref


def question_sets(job: JobRun, names: Sequence[str], limit: int | None = None) -> list[QuestionSet]:
    """The sets by name, each cut to its first ``limit`` questions."""
    with job.catalog.reading() as work:
        found = [questions.get_set(work, name) for name in names]
    return [one.model_copy(update={"questions": one.questions[:limit]}) for one in found] if limit else found


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation in figures: rates and scores 0 to 1, latencies in seconds."""
    return {
        "question_set": evaluation.question_set,
        "evaluation": evaluation.id,
        "rate": evaluation.rate,
        "score": evaluation.score,
        "passed": sum(result.passed for result in evaluation.results),
        "n": evaluation.n,
        "unanswered": evaluation.unanswered,
        "slices": evaluation.slice_rates(),
        "latency_p50": evaluation.latency(0.5),
        "latency_p95": evaluation.latency(0.95),
    }


def run(job: JobRun, recipe: EvaluateRecipe) -> dict[str, Any]:
    """The job's body. ``rate``, ``n`` and ``passed`` in the result are over all sets together."""
    recipe = recipe.model_copy(update={"release": resolve(job, recipe.release)})
    sets = question_sets(job, recipe.question_sets, recipe.limit)
    for one in sets:
        if recipe.release == AUTO and any(question.kind != "route" for question in one.questions):
            raise InvalidInput(
                f"Question set '{one.name}' judges answers; 'auto' is evaluated on routing sets only: name a release."
            )
        graders(job, one, recipe.judge)
    total = sum(len(one.questions) for one in sets)
    before = 0
    evaluations: list[Evaluation] = []
    with _address(job, recipe) as address:
        for one in sets:

            def heard(count: int, before: int = before, name: str = one.name) -> None:
                job.progress((before + count) / (total + 1), f"{name}: {count} answers")

            evaluations.append(measure_at(address, job, one, recipe, heard))
            before += len(one.questions)
    attach_report(job, recipe.release, evaluations)
    passed = sum(result.passed for one in evaluations for result in one.results)
    return {
        "release": recipe.release,
        "rate": passed / total,
        "passed": passed,
        "n": total,
        "unanswered": sum(one.unanswered for one in evaluations),
        "sets": [summary(one) for one in evaluations],
    }


@contextlib.contextmanager
def _address(job: JobRun, recipe: EvaluateRecipe) -> Iterator[str]:
    """Where the questions go."""
    if recipe.engine == "served":
        yield connection(job.settings).serve
        return
    job.progress(0.0, "starting an engine")
    with offline_address(job.settings, _base_name(job, recipe.release)) as address:
        yield address


def _base_name(job: JobRun, ref: str) -> str | None:
    """The served base that the release was trained on; None: the first, which says it where it is another."""
    if not job.settings.models.bases or split_ref(ref)[1] in (None, BASE_VERSION):
        return None
    with job.catalog.reading() as work:
        release = releases.get(work, ref)
    role = base_of(job.settings, release.base_digest)
    return role.name if role else None


def attach_report(job: JobRun, release: str, evaluations: Sequence[Evaluation]) -> None:
    """The report as a page beside the release's training in MLflow. The evaluations are kept whatever MLflow says."""
    version = split_ref(release)[1]
    if version in (None, BASE_VERSION):
        return
    with job.catalog.reading() as work:
        mlflow_run = releases.get(work, release).mlflow_run_id
    if mlflow_run is None:
        return
    name = "-".join(one.question_set for one in evaluations)[:100]
    try:
        report = Reporter(job.catalog, job.artifacts).of(evaluations)
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / f"{name}.html"
            file.write_text(page(report), encoding="utf-8")
            job.registry.log_file(mlflow_run, file, "evaluations")
    except Exception as error:  # MLflow's clients raise what they please
        log.warning("MLflow at %s was not given the report (%s).", job.settings.mlflow_url, error)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; the result is one line of JSON on stdout."""
    return job_run.main("train_jobs.evaluate", EvaluateRecipe, run, argv)


if __name__ == "__main__":
    sys.exit(main())
