"""Real training: Ray Train, TRL, PEFT and DeepSpeed on a small base, with a worker killed in the middle."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, Callable

import psutil
import pytest
from safetensors.numpy import load_file

from cluster import ray_lifecycle, unregistered, warm
from cluster.catalog import agents, datasets, releases, runs
from cluster.domain.agents import Agent
from cluster.domain.base import Frozen
from cluster.domain.recipes import DpoRecipe, LoraRecipe, SftRecipe
from cluster.domain.releases import CHALLENGER
from cluster.errors import JobFailed, Unavailable
from cluster.job_run import JobRun
from cluster.settings import Settings
from train_jobs import training

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
Opener = Callable[[str, Frozen], JobRun]
STEPS = 24
PROMPT = "Write one shell command."


def recipe_of(base: Path, files: dict[str, str], **changes: Any) -> SftRecipe:
    shape = LoraRecipe(rank=8, alpha=16)
    usual: dict[str, Any] = {"max_steps": STEPS, "batch_size": 8, "threads": 1, "checkpoint_every": 8, "lora": shape}
    return SftRecipe(**{"agent": "linux", "base": str(base), "rows": files["sft"], **usual, **changes})


@pytest.fixture(scope="package")
def unbroken(private_ray: None, base: Path, files: dict[str, str], package_job: Opener) -> dict[str, Any]:
    """Two workers, ZeRO-2, nobody killed."""
    recipe = recipe_of(base, files, workers=2, zero=2)
    job = package_job("train_jobs.sft", recipe)
    return {**training.train(job, recipe), "run": job.run.id}


def test_two_workers_with_zero_2_make_a_release(unbroken: dict[str, Any], open_job: Opener, base: Path) -> None:
    job = open_job("train_jobs.sft", SftRecipe(agent="linux", rows="x"))
    with job.catalog.reading() as work:
        release = releases.get(work, unbroken["release"])
        assert releases.alias(work, "linux", CHALLENGER) is not None
        held = datasets.get(work, release.datasets[0])
    assert unbroken["steps"] == STEPS
    assert (unbroken["rows"], unbroken["dropped"], held.rows) == (200, {}, 200)
    folder = job.artifacts.fetch(release.adapter_uri, release.adapter_digest)
    assert {file.name for file in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors", "manifest.json"}
    about = json.loads((folder / "adapter_config.json").read_text())
    assert (about["r"], about["base_model_name_or_path"], about["peft_type"]) == (8, str(base), "LORA")
    tensors = load_file(folder / "adapter_model.safetensors")
    assert len(tensors) == 2 * 2 * 7  # A and B of seven matrices in each of two layers
    assert all(abs(tensor).sum() > 0 for tensor in tensors.values())
    curve = job.registry.client.get_metric_history(release.mlflow_run_id, "loss")
    assert [point.step for point in curve][-1] == STEPS
    assert curve[-1].value < curve[0].value - 0.5
    assert not (Path(training.storage(job)) / unbroken["run"]).exists()


def test_zero_3_learns_what_zero_2_learns(
    unbroken: dict[str, Any], private_ray: None, base: Path, files: dict[str, str], open_job: Opener
) -> None:
    recipe = recipe_of(base, files, workers=2, zero=3)
    job = open_job("train_jobs.sft", recipe)
    done = training.train(job, recipe)
    assert done["metrics"]["train_loss"] == pytest.approx(unbroken["metrics"]["train_loss"], rel=0.02)
    with job.catalog.reading() as work:
        release = releases.get(work, done["release"])
    tensors = load_file(job.artifacts.fetch(release.adapter_uri) / "adapter_model.safetensors")
    assert {tensor.size > 0 and tensor.ndim == 2 for tensor in tensors.values()} == {True}


def test_a_killed_worker_costs_no_step_and_no_loss(
    private_ray: None, base: Path, files: dict[str, str], open_job: Opener
) -> None:
    slow = recipe_of(base, files, workers=2, zero=2, batch_size=96)  # slow enough to be killed in the middle
    alone = open_job("train_jobs.sft", slow.model_copy(update={"agent": "left-alone"}))
    with alone.catalog.transaction() as work:  # an agent of its own: the same adapter again is no release
        agents.save(work, Agent(name="left-alone", prompt=PROMPT))
    expected = training.train(alone, slow.model_copy(update={"agent": "left-alone"}))
    job = open_job("train_jobs.sft", slow)
    saved = Path(training.storage(job)) / job.run.id
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            if len(list(saved.glob("checkpoint_*/sealed-1.json"))):
                victim = _workers(job.settings)[-1]
                os.kill(victim.pid, signal.SIGKILL)
                killed.append(victim.pid)
            time.sleep(0.05)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    done = training.train(job, slow)
    killer.join(5)
    assert killed
    assert done["steps"] == STEPS
    assert done["repeated_steps"] <= slow.checkpoint_every
    assert done["metrics"]["train_loss"] == pytest.approx(expected["metrics"]["train_loss"], rel=0.02)
    with job.catalog.reading() as work:
        assert (
            "went on 1x after losing a worker" in runs.get(work, job.run.id).message or runs.get(work, job.run.id).progress > 0.95
        )
        release = releases.get(work, done["release"])
    curve = job.registry.client.get_metric_history(release.mlflow_run_id, "loss")
    assert [point.step for point in curve] == list(range(1, STEPS + 1))
    assert curve[-1].value < curve[0].value - 0.5


def test_a_store_that_is_away_at_the_end_loses_no_training(
    unbroken: dict[str, Any],
    private_ray: None,
    base: Path,
    files: dict[str, str],
    open_job: Opener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unregistered, "_PAUSES", (0.1,))
    recipe = recipe_of(base, files, max_steps=3, seed=11)
    job = open_job("train_jobs.sft", recipe)
    job.settings = job.settings.model_copy(update={"mlflow_url": "http://127.0.0.1:1"})  # nobody listens
    place, aside = Path(job.artifacts.root) / "adapter", Path(job.artifacts.root) / "adapter.aside"
    place.rename(aside)
    place.write_text("not a directory")
    try:
        with pytest.raises(
            Unavailable, match=rf"{job.run.id} is trained and .* artifact store .* kept in .*{job.run.id}: treadle"
        ):
            training.train(job, recipe)
    finally:
        place.unlink()
        aside.rename(place)
    assert (Path(training.storage(job)) / job.run.id).exists()
    again = JobRun(job.settings, job.run)
    done = training.train(again, recipe)  # the run's next attempt
    assert "steps" not in done, "nothing was trained again"
    assert not (Path(training.storage(job)) / job.run.id).exists()
    healthy = open_job("train_jobs.sft", recipe).registry
    healthy.reconcile()
    with job.catalog.reading() as work:
        release = releases.get(work, done["release"])
    assert release.metrics["train_loss"] > 0
    told = healthy.run_of(job.run.id)
    assert [point.step for point in healthy.client.get_metric_history(told, "loss")] == [1, 2, 3]
    assert healthy.client.get_run(told).data.params["seed"] == "11"


def _workers(settings: Settings) -> list[psutil.Process]:
    """Train workers of the private Ray: forks of its warm server."""
    found = ray_lifecycle.state(settings)
    assert found is not None
    server = f"{found.scratch}/{warm.SOCKET}"
    every = [one for one in psutil.process_iter(["cmdline", "ppid"]) if "RayTrainWorker" in " ".join(one.info["cmdline"] or ())]
    return [one for one in every if server in psutil.Process(one.info["ppid"]).cmdline()]


def test_dpo_raises_the_margin_of_the_chosen_answers(
    unbroken: dict[str, Any], private_ray: None, base: Path, files: dict[str, str], open_job: Opener
) -> None:
    recipe = DpoRecipe(
        agent="linux", base=str(base), rows=files["dpo"], parent=unbroken["release"], max_steps=12, batch_size=8, workers=2, zero=2,
        threads=1, checkpoint_every=100, learning_rate=2e-3, lora=LoraRecipe(rank=8, alpha=16),
    )  # fmt: skip
    job = open_job("train_jobs.dpo", recipe)
    done = training.train(job, recipe)
    with job.catalog.reading() as work:
        release = releases.get(work, done["release"])
    margins = [point.value for point in job.registry.client.get_metric_history(release.mlflow_run_id, "reward_margin")]
    assert margins[0] == pytest.approx(0.0, abs=0.02)  # before the first update the adapter is the reference
    assert margins[-1] > 0.1
    assert release.parent == unbroken["release"]
    assert release.version.split(".")[1] > unbroken["release"].partition("@")[2].split(".")[1]
    assert len(release.datasets) == 2


def test_a_loss_that_is_no_number_ends_the_run_in_one_sentence(
    private_ray: None, base: Path, files: dict[str, str], open_job: Opener
) -> None:
    recipe = recipe_of(base, files, learning_rate=1e30, max_grad_norm=1e30, max_steps=12, checkpoint_every=100)
    with pytest.raises(JobFailed, match=r"The loss is (nan|inf) at step .*; lower learning_rate or max_grad_norm"):
        training.train(open_job("train_jobs.sft", recipe), recipe)
