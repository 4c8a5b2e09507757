"""A release on question sets, through the served endpoint: `python -m train_jobs.evaluate --recipe configs/train/evaluate.yaml`.

Measures what a client would get: prompt, retrieval, adapter and decoding as they are served. Turns are not recorded, so that questions
never leak into conversations and from there into training data.
"""

import asyncio
import sys
import time
from typing import Any, Callable, Sequence

import httpx

from cluster import job_run
from cluster.access import own_key
from cluster.catalog import agents, questions, releases
from cluster.domain.agents import BASE_VERSION
from cluster.domain.questions import Evaluation, Question, QuestionResult, QuestionSet, passes
from cluster.domain.recipes import EvaluateRecipe
from cluster.domain.versions import split_ref
from cluster.errors import InvalidInput, NotFound, Unavailable
from cluster.job_run import JobRun
from cluster.ray_lifecycle import connection

AUTO = "auto"
_ATTEMPTS = 4
_BACKOFF_SECONDS = 0.5
_TIMEOUT_SECONDS = 180.0
Heard = Callable[[int], None]


def judged(question: Question, body: dict[str, Any], latency: float) -> QuestionResult:
    """The result of one answer. Rules are judged as they were when it was served; a route by the agent that answered ("" for none)."""
    about = body.get("treadle") or {}
    text = str(body["choices"][0]["message"]["content"] or "")
    if question.kind == "route":
        text = "" if (about.get("route") or {}).get("out_of_scope") else str(about.get("agent") or "")
    if question.kind == "rules":
        verdict = about.get("validation") or {}
        passed, detail = bool(verdict.get("passed")), ", ".join(verdict.get("failures") or ())
    else:
        passed, detail = passes(question, text)
    return QuestionResult(
        question_id=question.id, answer=text, passed=passed, latency_s=round(latency, 4), slices=question.slices, detail=detail
    )


async def ask(client: httpx.AsyncClient, model: str, question: Question, retrieve: bool) -> QuestionResult:
    """Ask one question; busy or restarting servers are asked again. Raises NotFound or Unavailable with the server's own words."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": question.text}],
        "treadle": {"retrieve": retrieve, "record": False},
    }
    if question.kind == "route":
        body["max_tokens"] = 1  # only who answers is looked at
    said = "no answer"
    for attempt in range(_ATTEMPTS):
        if attempt:
            await asyncio.sleep(_BACKOFF_SECONDS * 2**attempt)
        start = time.perf_counter()
        try:
            answer = await client.post("/v1/chat/completions", json=body)
        except httpx.HTTPError as error:
            said = f"{type(error).__name__}: {error}"
            continue
        if answer.status_code == 200:
            return judged(question, answer.json(), time.perf_counter() - start)
        said = _words(answer)
        if answer.status_code == 404:
            raise NotFound(f"'{model}' cannot be evaluated: {said}")
        if answer.status_code < 500 and answer.status_code != 429:
            break
    raise Unavailable(f"Question '{question.id}' to '{model}' was not answered: {said}")


def _words(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code} {answer.text[:120]}"


async def ask_all(
    client: httpx.AsyncClient, model: str, asked: Sequence[Question], retrieve: bool, concurrency: int, heard: Heard
) -> tuple[QuestionResult, ...]:
    """All questions, ``concurrency`` at a time, results in their order; the first error ends it. ``heard`` gets the count so far."""
    places = asyncio.Semaphore(concurrency)
    done = 0

    async def one(question: Question) -> QuestionResult:
        nonlocal done
        async with places:
            result = await ask(client, model, question, retrieve)
        done += 1
        heard(done)
        return result

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(question)) for question in asked]
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    return tuple(task.result() for task in tasks)


def measure(job: JobRun, release: str, asked: QuestionSet, retrieve: bool, concurrency: int, heard: Heard) -> Evaluation:
    """Ask a question set and record the evaluation."""
    headers = {"Authorization": f"Bearer {own_key(job.settings, job.catalog)}"}

    async def go() -> tuple[QuestionResult, ...]:
        limits = httpx.Limits(max_connections=concurrency)
        address = connection(job.settings).serve
        async with httpx.AsyncClient(base_url=address, headers=headers, timeout=_TIMEOUT_SECONDS, limits=limits) as client:
            return await ask_all(client, release, asked.questions, retrieve, concurrency, heard)

    results = asyncio.run(go())
    evaluation = Evaluation(
        release=release, question_set=asked.name, set_digest=asked.digest, options={"retrieve": retrieve}, results=results
    )
    with job.catalog.transaction() as work:
        questions.record(work, evaluation)
    return evaluation


def known(job: JobRun, release: str, asked: QuestionSet, retrieve: bool) -> Evaluation | None:
    """An earlier evaluation of the same release on the same questions. Never of ``agent@base``: its card may have changed since."""
    if split_ref(release)[1] in (None, BASE_VERSION):
        return None
    with job.catalog.reading() as work:
        for one in questions.of_release(work, release):
            same = one.question_set == asked.name and one.set_digest == asked.digest
            if same and one.options.get("retrieve", True) == retrieve:
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
    """An evaluation in figures: rates 0 to 1, latencies in seconds."""
    return {
        "question_set": evaluation.question_set,
        "evaluation": evaluation.id,
        "rate": evaluation.rate,
        "passed": sum(result.passed for result in evaluation.results),
        "n": evaluation.n,
        "slices": evaluation.slice_rates(),
        "latency_p50": evaluation.latency(0.5),
        "latency_p95": evaluation.latency(0.95),
    }


def run(job: JobRun, recipe: EvaluateRecipe) -> dict[str, Any]:
    """The job's body. ``rate``, ``n`` and ``passed`` in the result are over all sets together."""
    release = resolve(job, recipe.release)
    sets = question_sets(job, recipe.question_sets, recipe.limit)
    for one in sets:
        if release == AUTO and any(question.kind != "route" for question in one.questions):
            raise InvalidInput(
                f"Question set '{one.name}' judges answers; 'auto' is evaluated on routing sets only: name a release."
            )
    total = sum(len(one.questions) for one in sets)
    before = 0
    evaluations: list[Evaluation] = []
    for one in sets:

        def heard(count: int, before: int = before, name: str = one.name) -> None:
            job.progress((before + count) / (total + 1), f"{name}: {count} answers")

        evaluations.append(measure(job, release, one, recipe.retrieve, recipe.concurrency, heard))
        before += len(one.questions)
    passed = sum(result.passed for one in evaluations for result in one.results)
    return {
        "release": release,
        "rate": passed / total,
        "passed": passed,
        "n": total,
        "sets": [summary(one) for one in evaluations],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; the result is one line of JSON on stdout."""
    return job_run.main("train_jobs.evaluate", EvaluateRecipe, run, argv)


if __name__ == "__main__":
    sys.exit(main())
