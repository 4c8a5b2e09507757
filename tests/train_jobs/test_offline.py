"""Evaluation without the serving application."""

import contextlib
import os
import subprocess
from typing import Any

import psutil
import pytest

from cluster.catalog import questions, runs
from cluster.domain.questions import Question, QuestionSet
from cluster.domain.recipes import EvaluateRecipe
from cluster.domain.runs import Run
from cluster.errors import Unavailable
from cluster.job_run import JobRun
from train_jobs import evaluate
from train_jobs.offline import offline_address


def _group(process: psutil.Process) -> int | None:
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(process.pid)
    return None


@pytest.mark.real
def test_an_engine_of_the_jobs_own_answers_as_the_served_one_does_and_ends_with_the_job(trainers_home, monkeypatch) -> None:
    """vLLM and the starter model without Ray Serve: the same requests, the same results, and no process is left."""
    groups: list[int] = []
    opened = subprocess.Popen

    def noted(*words: Any, **options: Any) -> Any:
        process = opened(*words, **options)
        groups.append(process.pid)
        return process

    monkeypatch.setattr(subprocess, "Popen", noted)
    questions_asked = tuple(
        Question(id=str(n), text=f"Find files over {n} MB in /tmp.", kind="regex", expected=".") for n in range(3)
    )
    recipe = EvaluateRecipe(release="linux@base", question_sets=("offline",), engine="offline")
    run = Run(job="train_jobs.evaluate", recipe=recipe.model_dump(mode="json"), state="running", attempts=1)
    job = JobRun(trainers_home, run)
    with job.catalog.transaction() as work:
        runs.save(work, run)
        questions.save_set(work, QuestionSet(name="offline", agent="linux", questions=questions_asked))
    result = evaluate.run(job, recipe)
    assert (result["n"], result["unanswered"], result["rate"]) == (3, 0, 1.0)
    with job.catalog.reading() as work:
        (kept,) = questions.of_release(work, "linux@base")[:1]
    assert kept.options == {"retrieve": True, "engine": "offline"}
    assert all(result.answer for result in kept.results)
    assert [one for one in psutil.process_iter(["status"]) if one.info["status"] != "zombie" and _group(one) == groups[0]] == []
    broken = trainers_home.model_copy(update={"home": trainers_home.home / "none"})
    monkeypatch.setenv("TREADLE_SETTINGS", str(trainers_home.home / "no-such.yaml"))
    with (
        pytest.raises(Unavailable, match=r"The offline engine did not start: .*no-such.yaml cannot be read"),
        offline_address(broken),
    ):
        pass
    job.catalog.close()
