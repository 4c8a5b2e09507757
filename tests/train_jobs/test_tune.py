"""A real search on the tests' Ray: trials are suggested, measured, ended early; a killed search goes on; the winner is a recipe."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

import pytest
import yaml

from cluster.domain.base import Frozen
from cluster.domain.recipes import SftRecipe, TuneRecipe
from cluster.errors import JobFailed
from cluster.job_run import JobRun
from cluster.settings import ROOT, Settings, load_train_recipe
from train_jobs import tune

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
Opener = Callable[[str, Frozen], JobRun]
TRIALS, STEPS = 6, 12


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, make_rows: Any) -> str:
    file = tmp_path_factory.mktemp("tune") / "sft.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in make_rows(60)["sft"]))
    return str(file)


def recipe_of(base: Path, rows: str, **changes: Any) -> TuneRecipe:
    trained = {
        "agent": "linux",
        "base": str(base),
        "rows": rows,
        "max_steps": STEPS,
        "batch_size": 4,
        "threads": 1,
        "schedule": "constant",
    }
    space = {
        "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
        "lora.rank": {"values": [2, 8]},
        "lora.layers": {"values": [None, [1]]},
    }
    usual = {
        "base": trained,
        "space": space,
        "trials": TRIALS,
        "at_once": 2,
        "measure_every": 3,
        "grace": 3,
        "reduction": 2,
        "seed": 3,
    }
    return TuneRecipe.model_validate({**usual, **changes})


def test_a_search_killed_in_the_middle_goes_on_and_ends_with_a_recipe(
    private_ray: None, trainers_home: Settings, base: Path, rows: str, tmp_path: Path, package_job: Opener
) -> None:
    recipe = recipe_of(base, rows)
    job = package_job("train_jobs.tune", recipe)
    command = [sys.executable, "-m", "train_jobs.tune", "--run", job.run.id]
    env = {**os.environ, **trainers_home.env, "PYTHONPATH": str(ROOT)}
    with (tmp_path / "first.log").open("wb") as log:
        first = subprocess.Popen(command, env=env, cwd=ROOT, stdout=log, stderr=log)
    try:
        before = _until_over(job, first, 2)
    finally:
        _kill(first)
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["trials"] == TRIALS
    assert result["failed"] == 0
    assert result["stopped_early"] >= 1
    folder = job.artifacts.fetch(result["uri"])
    assert {"winner.yaml", "trials.json", "history.png", "parallel_coordinates.png", "importance.png"} <= {
        one.name for one in folder.iterdir()
    }
    table = json.loads((folder / "trials.json").read_text())
    assert {row["state"] for row in table} == {"finished", "stopped early"}
    assert len(before) >= 2
    # What was over when the driver was killed was not trained again: its last report is of before.
    assert sorted(row["ended"] for row in table if row["ended"] <= max(before.values()))[: len(before)] == sorted(
        before.values()
    ), (
        before,
        [(row["id"], row["ended"], row["state"]) for row in table],
    )
    best = min(table, key=lambda row: row["value"])
    assert result["fields"] == best["fields"]
    winner = load_train_recipe(folder / "winner.yaml")
    assert winner.learning_rate == best["fields"]["learning_rate"]
    assert winner.lora.rank == best["fields"]["lora.rank"]
    assert (winner.agent, winner.max_steps, winner.eval_share) == ("linux", STEPS, 0.0)
    assert yaml.safe_load(result["winner"]) == yaml.safe_load((folder / "winner.yaml").read_text())
    assert not (Path(job.artifacts.root) / "tuning" / job.run.id).exists()
    experiment = job.registry.client.get_experiment_by_name("treadle.linux").experiment_id
    logged = job.registry.client.search_runs([experiment], filter_string=f"tags.`treadle.run` = '{job.run.id}'")
    assert logged[0].data.metrics["eval_loss"] == pytest.approx(result["value"])


def _until_over(job: JobRun, process: "subprocess.Popen[bytes]", count: int) -> dict[str, float]:
    """Waits until Ray Tune has noted so many trials as over; their ids with the moment of their last report."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        assert process.poll() is None
        states = sorted((Path(job.artifacts.root) / "tuning" / job.run.id).glob("experiment_state-*.json"))
        try:
            noted = json.loads(states[-1].read_text())["trial_data"] if states else []
        except json.JSONDecodeError:  # it is being written
            continue
        over = {}
        for trial, history in noted:
            about = json.loads(trial)
            if about["status"] == "TERMINATED":
                over[about["trial_id"]] = json.loads(history)["last_result"]["timestamp"]
        if len(over) >= count:
            return over
        time.sleep(0.2)
    raise AssertionError("no trial was over in time")


def _kill(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_trials_that_all_fail_say_why(private_ray: None, base: Path, rows: str, package_job: Opener) -> None:
    recipe = recipe_of(base, rows, trials=2, space={"learning_rate": {"values": [1e29, 1e30]}})
    recipe = recipe.model_copy(update={"base": {**recipe.base, "max_grad_norm": 1e30}})  # type: ignore[dict-item]
    with pytest.raises(JobFailed, match=r"All 2 trials of run .* failed; the first said: .*The loss is (nan|inf) at step"):
        tune.run(package_job("train_jobs.tune", recipe), recipe)


def test_answers_that_count_as_exact_are_those_that_greedy_decoding_gives(
    base: Path, package_job: Opener, tmp_path: Path
) -> None:
    """The share is read off one forward pass; here the same answers are generated token by token."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from cluster.artifacts import read_rows_file
    from train_jobs import examples, training, worker

    base = ROOT / "models" / "starter"
    file = tmp_path / "rows.jsonl"
    row = {"kind": "sft", "source": "t"}
    easy = [{**row, "question": f"List folder {number}.", "answer": "ls -l"} for number in range(12)]
    hard = [{**row, "question": f"Guess {number}.", "answer": str(number * 7919 % 1000)} for number in range(12)]
    file.write_text("".join(json.dumps(one) + "\n" for one in easy + hard))
    trained = {
        "agent": "linux",
        "base": str(base),
        "rows": str(file),
        "max_steps": 30,
        "batch_size": 4,
        "threads": 1,
    }
    for packing in (True, False):
        recipe = SftRecipe(**trained, learning_rate=0.005, eval_share=0.4, eval_every=30, packing=packing, checkpoint_every=1000)
        job = package_job("train_jobs.sft", recipe)
        plan = training.check(job, recipe)
        adapter = tmp_path / f"adapter-{packing}"
        reports: list[dict[str, Any]] = []

        def send(report: dict[str, Any], folder: Path | None, reports: Any = reports, adapter: Path = adapter) -> None:
            reports.append(report)
            if report.get("done"):
                shutil.copytree(str(folder), adapter)

        worker.fit(training.worker_task(job, plan, 1), send)
        tokenizer = AutoTokenizer.from_pretrained(base)
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(adapter)).eval()
        found = examples.tokenise(read_rows_file(file), tokenizer, plan.card.prompt, recipe.max_length)
        _, held = examples.split(found.rows, recipe.eval_share, recipe.seed)
        right = 0
        for one in held:
            start = next(at for at, label in enumerate(one["labels"]) if label != examples.IGNORED)
            prompt, answer = one["input_ids"][:start], one["input_ids"][start:]
            out = model.generate(input_ids=torch.tensor([prompt]), max_new_tokens=len(answer), do_sample=False)[0].tolist()
            right += out[start : start + len(answer)] == answer
        assert reports[-1]["eval_exact"] == pytest.approx(right / len(held))
        assert 0 < right < len(held)
