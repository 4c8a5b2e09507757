"""Training against a plain TRL script: same machine, model, rows, rate and number of steps, in turns.

    python tests/benchmarks/training.py [--sft ROWS.jsonl] [--dpo PAIRS.jsonl] [--steps 40] [--rounds 3] [--parts …] [--json]

sft       tokens/s (those of rows, not of padding) of TRL's SFTTrainer with its defaults against Treadle's job, and the loss of both
          adapters on rows that neither was shown, by one function. ``needed`` is what is asked for: 3, or 0.9 of what padding costs.
dpo       rows/s of TRL's DPOTrainer with its defaults against Treadle's; the pass for the reference is before the steps, and
          reported; accuracy of both adapters on held-out pairs, by one function
overhead  the step under Ray Train against the same step without it
start     from a job's submission to its first step: the first job on a fresh cluster, and the second

Every arm is a process of its own and its first steps are not counted. Rows are question/answer (``instruction``/``output``, or Treadle's
own rows), pairs ``chosen``/``rejected`` dialogues or Treadle's. Without files rows are generated, of lengths as in a help desk's history.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from laptop import write_settings
from training_rows import BASE, PROMPT, rows_of

ROOT = Path(__file__).parents[2]
RATE, BATCH, RANK = 2e-3, 8, 16
SKIPPED = 5  # steps that are not timed


# Arms, each run as a process: `training.py --arm NAME WORK`


def arm_trl(work: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """A plain script with TRL: nothing set but what makes the two comparable."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    torch.set_num_threads(asked["threads"])
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    model = AutoModelForCausalLM.from_pretrained(BASE)
    rows = [json.loads(line) for line in (work / "train.jsonl").read_text().splitlines()]
    ticks: list[float] = []
    seen: list[tuple[int, int]] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ticks.append(time.perf_counter())

    def said(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    common = {
        "output_dir": str(work / "trl"), "max_steps": asked["steps"], "learning_rate": RATE, "seed": 7, "use_cpu": True,
        "report_to": "none", "disable_tqdm": True, "save_strategy": "no", "per_device_train_batch_size": BATCH,
    }  # fmt: skip
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    prompts = [[*said("system", PROMPT), *said("user", row["question"])] for row in rows]
    trainer: Any
    if asked["kind"] == "sft":
        given = {"prompt": prompts, "completion": [said("assistant", row["answer"]) for row in rows]}
        trainer = SFTTrainer(
            model, SFTConfig(**common), train_dataset=Dataset.from_dict(given), peft_config=lora, processing_class=tokenizer
        )
    else:
        given = {"prompt": prompts} | {name: [said("assistant", row[name]) for row in rows] for name in ("chosen", "rejected")}
        trainer = DPOTrainer(
            model, args=DPOConfig(**common), train_dataset=Dataset.from_dict(given), peft_config=lora, processing_class=tokenizer
        )
    collate = trainer.data_collator

    def counted(examples: list[Any]) -> Any:
        batch = collate(examples)
        seen.append((int(batch["attention_mask"].sum()), batch["attention_mask"].numel()))
        return batch

    trainer.data_collator = counted
    trainer.add_callback(Clock())
    trainer.train()
    trainer.model.save_pretrained(work / "trl-adapter")
    seconds = ticks[-1] - ticks[SKIPPED - 1]
    counted_steps = seen[SKIPPED : len(ticks)]
    tokens = sum(real for real, _ in counted_steps)
    padding = 1 - sum(real for real, _ in seen) / sum(whole for _, whole in seen)
    return {"tokens_per_s": tokens / seconds, "rows_per_s": BATCH * len(counted_steps) / seconds, "padding": padding}


def arm_treadle(work: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Treadle's training of one worker, without Ray."""
    from cluster.artifacts import Artifacts, read_rows_file
    from cluster.domain.recipes import DpoRecipe, LoraRecipe, SftRecipe
    from train_jobs import reporter, worker
    from train_jobs.training import WorkerTask

    reporter._SEND_SECONDS = 0.0  # every step is to be timed
    artifacts = Artifacts(str(work / "store"))
    uri = artifacts.write_rows(read_rows_file(work / "train.jsonl")).uri
    common: dict[str, Any] = {
        "agent": "benchmark", "rows": "rows", "max_steps": asked["steps"], "learning_rate": RATE, "batch_size": BATCH, "warmup": 0.0,
        "schedule": "linear", "threads": asked["threads"], "checkpoint_every": 10_000, "lora": LoraRecipe(rank=RANK, alpha=2 * RANK),
    }  # fmt: skip
    recipe = SftRecipe(**common) if asked["kind"] == "sft" else DpoRecipe(**common, parent=None, sft_weight=0.0)
    task = WorkerTask(recipe, str(BASE), str(BASE), PROMPT, (uri,), artifacts.root, work / "cache", asked["threads"], "base")
    ticks: list[tuple[float, dict[str, Any]]] = []
    began = time.perf_counter()

    def send(report: dict[str, Any], folder: Path | None) -> None:
        ticks.append((time.perf_counter(), report))
        if report.get("done") and folder is not None:
            folder.rename(work / "treadle-adapter")

    worker.fit(task, send)
    steps = [(moment, report["step"]) for moment, report in ticks if "done" not in report and "saved" not in report]
    seconds = steps[-1][0] - next(moment for moment, step in steps if step >= SKIPPED)
    count = steps[-1][1] - next(step for _, step in steps if step >= SKIPPED)
    return {
        "tokens_per_s": ticks[-2][1]["tokens_per_s"],
        "rows_per_s": BATCH * count / seconds,
        "before_first_step_s": steps[0][0] - began,
    }


def arm_judge(work: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Both adapters on the held-out rows: mean loss per answer token, or share of pairs whose chosen answer gained more."""
    import torch
    from peft import PeftModel
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from cluster.artifacts import read_rows_file
    from cluster.domain.prompts import render, training_ids

    tokenizer = AutoTokenizer.from_pretrained(BASE)
    rows = read_rows_file(work / "held.jsonl")

    @torch.no_grad()
    def likelihood(model: Any, row: Any, answer: str) -> tuple[float, int]:
        prompt, said = training_ids(tokenizer, render(PROMPT, row.question, row.history, row.passages), answer)
        logits = model(input_ids=torch.tensor([prompt + said])).logits[0, len(prompt) - 1 : -1]
        return -float(cross_entropy(logits, torch.tensor(said), reduction="sum")), len(said)

    found = {}
    for name in ("trl", "treadle"):
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), str(work / f"{name}-adapter")).eval()
        if asked["kind"] == "sft":
            sums = [likelihood(model, row, row.answer) for row in rows]
            found[name] = -sum(one for one, _ in sums) / sum(count for _, count in sums)
            continue
        right = 0
        for row in rows:
            gained = [likelihood(model, row, answer)[0] for answer in (row.chosen, row.rejected)]
            with model.disable_adapter():
                before = [likelihood(model, row, answer)[0] for answer in (row.chosen, row.rejected)]
            right += gained[0] - before[0] > gained[1] - before[1]
        found[name] = right / len(rows)
    return found


ARMS = {"trl": arm_trl, "treadle": arm_treadle, "judge": arm_judge}


def arm(name: str, work: Path, **asked: Any) -> dict[str, Any]:
    """Runs an arm in a process of its own."""
    command = [sys.executable, __file__, "--arm", name, str(work), json.dumps(asked)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        sys.exit(f"The arm {name} ended with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def compare(kind: str, rows: list[dict[str, Any]], given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """TRL and Treadle in turns; medians of the figures, the ratio of each round."""
    work = scratch / kind
    work.mkdir()
    held = max(20, len(rows) // 8)
    for name, part in (("held", rows[:held]), ("train", rows[held:])):
        (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    figure = "tokens_per_s" if kind == "sft" else "rows_per_s"
    rounds = []
    for number in range(given.rounds):
        for name in ("trl-adapter", "treadle-adapter"):
            subprocess.run(["rm", "-rf", str(work / name)], check=True)
        order = ("trl", "treadle") if number % 2 == 0 else ("treadle", "trl")
        rounds.append({name: arm(name, work, kind=kind, steps=given.steps, threads=given.threads) for name in order})
    padding = statistics.median(one["trl"]["padding"] for one in rounds)
    quality = arm("judge", work, kind=kind)
    result = {
        "rows": len(rows) - held,
        figure: {name: round(statistics.median(one[name][figure] for one in rounds), 1) for name in ("trl", "treadle")},
        "ratio": round(statistics.median(one["treadle"][figure] / one["trl"][figure] for one in rounds), 3),
        "ratios": [round(one["treadle"][figure] / one["trl"][figure], 3) for one in rounds],
        "padding_share": round(padding, 4),
        "eval_loss" if kind == "sft" else "held_out_accuracy": {name: round(value, 4) for name, value in quality.items()},
    }
    if kind == "sft":
        result["needed"] = round(min(3.0, 0.9 / (1 - padding)), 3)
    return result


# Parts that need Ray


def on_ray(rows: list[dict[str, Any]], given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Starts a cluster of its own in a home of its own; ends it."""
    file = scratch / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings_file = write_settings(scratch)
    os.environ |= {"TREADLE_HOME": str(scratch / "home"), "TREADLE_SETTINGS": str(settings_file)}
    from cluster import ray_lifecycle
    from cluster.catalog import Catalog, agents
    from cluster.domain.agents import Agent
    from cluster.domain.recipes import LoraRecipe, SftRecipe
    from cluster.job_submission import Submitter
    from cluster.settings import load_settings

    settings = load_settings()
    catalog = Catalog(settings.catalog_url).prepare()
    with catalog.transaction() as work:
        agents.save(work, Agent(name="benchmark", prompt=PROMPT))
    ray_lifecycle.start(settings, say=lambda line: None)
    try:
        submitter = Submitter(settings, catalog)
        time.sleep(5)
        found: dict[str, Any] = {}

        def launched(steps: int, seed: int) -> tuple[float, dict[str, Any]]:
            recipe = SftRecipe(
                agent="benchmark", rows=str(file), max_steps=steps, learning_rate=RATE, batch_size=BATCH, warmup=0.0, schedule="linear",
                threads=given.threads, checkpoint_every=10_000, lora=LoraRecipe(rank=RANK, alpha=2 * RANK), seed=seed,
            )  # fmt: skip
            began = time.perf_counter()
            first: list[float] = []
            figures: dict[str, Any] = {}

            def watch(run: Any) -> None:
                if "loss" in run.metrics:
                    first.append(time.perf_counter() - began)
                    figures.update(run.metrics)

            submitter.follow(submitter.submit("train_jobs.sft", recipe), watch)
            return first[0], figures

        if "start" in given.parts:
            starts = [launched(20, seed)[0] for seed in range(1, 4)]
            found["start"] = {"first_s": round(starts[0], 2), "later_s": [round(one, 2) for one in starts[1:]]}
            found["start"]["ratio"] = round(starts[1] / starts[0], 3)
        if "overhead" in given.parts:
            ratios = []
            for number in range(given.rounds):
                work_ = scratch / f"overhead-{number}"
                work_.mkdir()
                (work_ / "train.jsonl").write_text(file.read_text())
                bare = arm("treadle", work_, kind="sft", steps=2 * given.steps, threads=given.threads)["tokens_per_s"]
                ratios.append(bare / launched(2 * given.steps, 100 + number)[1]["tokens_per_s"])
            found["overhead"] = {
                "step_time_ratio": round(statistics.median(ratios), 3),
                "ratios": [round(one, 3) for one in ratios],
            }
        return found
    finally:
        ray_lifecycle.stop(settings, say=lambda line: None)
        catalog.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sft", help="JSON lines of questions and answers")
    parser.add_argument("--dpo", help="JSON lines of preferences")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--parts", nargs="*", default=["sft", "dpo", "overhead", "start"])
    parser.add_argument("--arm", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.arm:
        name, work, asked = given.arm
        print(json.dumps(ARMS[name](Path(work), json.loads(asked))))
        return
    result: dict[str, Any] = {"cores": os.cpu_count(), "threads": given.threads, "steps": given.steps, "batch": BATCH}
    with tempfile.TemporaryDirectory(prefix="treadle-benchmark-") as place:
        scratch = Path(place)
        rows = rows_of(given.sft, "sft", given.rows)
        if "sft" in given.parts:
            result["sft"] = compare("sft", rows, given, scratch)
        if "dpo" in given.parts:
            result["dpo"] = compare("dpo", rows_of(given.dpo, "dpo", given.rows), given, scratch)
        if {"start", "overhead"} & set(given.parts):
            result |= on_ray(rows, given, scratch)
    print(json.dumps(result) if given.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
