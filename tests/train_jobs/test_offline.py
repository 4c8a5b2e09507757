"""Evaluation without the serving application."""

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from cluster.base_model import base_digest
from cluster.catalog import agents, questions, releases, runs
from cluster.domain.questions import Question, QuestionSet
from cluster.domain.recipes import EvaluateRecipe
from cluster.domain.runs import Run
from cluster.errors import Unavailable
from cluster.job_run import JobRun
from cluster.settings import load_settings
from tests.benchmarks.laptop import write_settings
from tests.serve_app.other_base import other_base
from tests.serve_app.real_service import adapter, models_with, release
from train_jobs import evaluate
from train_jobs.offline import offline_address


def _group(process: psutil.Process) -> int | None:
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(process.pid)
    return None


def settings_with(other: Path, folder: Path) -> Path:
    """Settings with a second base."""
    found = yaml.safe_load(write_settings(folder, max_lora_rank=16).read_text())
    file = folder / "two.yaml"
    file.write_text(yaml.safe_dump({**found, "models": str(models_with(other, folder / "models.yaml"))}))
    return file


@pytest.mark.real
def test_an_engine_of_the_jobs_own_answers_as_the_served_one_does_and_ends_with_the_job(
    trainers_home, tmp_path, monkeypatch
) -> None:
    """vLLM without Ray Serve, on the base of the release, here the second one: the same requests and results, and no process is left."""
    monkeypatch.setenv("TREADLE_HOME", str(trainers_home.home))
    monkeypatch.setenv("TREADLE_SETTINGS", str(settings_with(other_base("models/starter", tmp_path / "other"), tmp_path)))
    settings = load_settings()
    role = settings.bases[1]
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
    recipe = EvaluateRecipe(release="abroad@0.1.0", question_sets=("offline",), engine="offline")
    run = Run(job="train_jobs.evaluate", recipe=recipe.model_dump(mode="json"), state="running", attempts=1)
    job = JobRun(settings, run)
    made = {"base_model": role.name, "base_digest": base_digest(role)}
    of_second = release(settings, job.artifacts, adapter(role.location, 5, tmp_path / "adapter"), "abroad", "0.1.0", **made)
    with job.catalog.transaction() as work:
        runs.save(work, run)
        agents.save(work, of_second.card)
        releases.add(work, of_second)
        questions.save_set(work, QuestionSet(name="offline", agent="linux", questions=questions_asked))
    result = evaluate.run(job, recipe)
    assert (result["n"], result["unanswered"], result["rate"]) == (3, 0, 1.0)
    with job.catalog.reading() as work:
        (kept,) = questions.of_release(work, "abroad@0.1.0")[:1]
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
