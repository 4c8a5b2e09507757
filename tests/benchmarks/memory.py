"""Planned against measured memory of training on a CPU: ``python tests/benchmarks/memory.py --json``.

Each case is a real training (Ray Train, TRL, PEFT; a private home and a private Ray) on rows that fill ``max_length``. Measured is the
largest resident memory of a worker (VmHWM in /proc), planned what ``cluster.domain.memory`` says without its margin. The ratio is planned
to measured; ``worst`` is the largest distance from 1.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from laptop import write_settings

from cluster.domain import memory
from cluster.domain.model_shapes import shape_of
from cluster.domain.recipes import DpoRecipe, SftRecipe, TrainRecipe

STEPS = 2
STARTER = {"base": "starter", "max_length": 1000}
LARGE = {"base": "large", "max_length": 512}
CASES: dict[str, dict[str, Any]] = {
    "starter, 1 row": {**STARTER, "batch_size": 1},
    "starter, 32 rows": {**STARTER, "batch_size": 32},
    "100 M, 4 rows": {**LARGE, "batch_size": 4},
    "100 M, 16 rows": {**LARGE, "batch_size": 16},
    "100 M, 16 rows in micro batches of 4": {**LARGE, "batch_size": 16, "micro_batch_size": 4},
    "100 M, 16 rows, checkpointing": {**LARGE, "batch_size": 16, "gradient_checkpointing": True},
    "100 M, 16 rows, bf16": {**LARGE, "batch_size": 16, "bf16": True},
    "100 M, 16 rows, q and v": {**LARGE, "batch_size": 16, "lora": {"rank": 16, "target_modules": ["q_proj", "v_proj"]}},
    "100 M, 4 pairs": {**LARGE, "batch_size": 4, "pairs": True},
}


def large_base(folder: Path) -> Path:
    """A Qwen3 of about 100 million random parameters with the starter's tokenizer."""
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    from cluster.settings import ROOT

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "models" / "starter")
    tokenizer.save_pretrained(folder)
    shape = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12, "head_dim": 64}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    torch.manual_seed(0)
    Qwen3ForCausalLM(
        Qwen3Config(vocab_size=32_000, num_key_value_heads=4, tie_word_embeddings=True, **shape, **ends)
    ).save_pretrained(folder)
    return folder


def full_rows(base: Path, length: int, pairs: bool) -> list[dict[str, Any]]:
    """Rows whose prompt is short and whose answer fills ``length`` tokens but for a few."""
    from transformers import AutoTokenizer

    from cluster.domain.prompts import render, training_ids

    tokenizer = AutoTokenizer.from_pretrained(base)
    pick = random.Random(7)

    def answer() -> str:
        words = [str(pick.randint(100, 999)) for _ in range(length // 4)]
        while True:
            text = " ".join(words)
            prompt, ids = training_ids(tokenizer, render("", "Count."), text)
            left = length - len(prompt) - len(ids)
            if 0 <= left < 8:
                return text
            words = words + [str(pick.randint(100, 999))] * max(1, left // 4) if left > 0 else words[: left // 4]

    rows: list[dict[str, Any]] = []
    for _ in range(8):
        said = {"chosen": answer(), "rejected": answer()} if pairs else {"answer": answer()}
        rows.append({"kind": "dpo" if pairs else "sft", "question": "Count.", "source": "benchmark", **said})
    return rows


class Watch:
    """The largest resident memory of this process's Ray Train workers."""

    def __init__(self) -> None:
        self.peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            for one in psutil.Process().children(recursive=True):
                try:
                    if "RayTrainWorker" in " ".join(one.cmdline()):
                        status = Path(f"/proc/{one.pid}/status").read_text()
                        kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
                        self.peak = max(self.peak, int(kib) * 1024)
                except (psutil.Error, OSError, StopIteration):
                    continue


def run_case(name: str, bases: dict[str, Path], scratch: Path, open_job: Any) -> dict[str, Any]:
    from train_jobs import training

    case = dict(CASES[name])
    pairs, base = bool(case.pop("pairs", False)), bases[case.pop("base")]
    rows = scratch / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in full_rows(base, case["max_length"], pairs)))
    usual = {"agent": "counter", "base": str(base), "rows": str(rows), "max_steps": STEPS, "threads": 2, "parent": None}
    kind: type[TrainRecipe] = DpoRecipe if pairs else SftRecipe
    recipe = kind(**{"lora": {"rank": 32}, **usual, **case})
    config = json.loads((base / "config.json").read_text())
    planned = memory.plan(shape_of(config, name), recipe)
    started = time.monotonic()
    with Watch() as watch:
        training.train(open_job("train_jobs.dpo" if pairs else "train_jobs.sft", recipe), recipe)
    total = planned.total(margin=False)
    return {
        "case": name,
        "parameters": planned.parameters,
        "planned_gib": round(total / memory.GIB, 3),
        "measured_gib": round(watch.peak / memory.GIB, 3),
        "ratio": round(total / watch.peak, 3),
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON value on stdout")
    parser.add_argument("--only", help="cases whose name contains this")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="treadle-memory-") as folder:
        scratch = Path(folder)
        settings_file = write_settings(scratch, max_lora_rank=64)
        os.environ |= {"TREADLE_HOME": str(scratch / "home"), "TREADLE_SETTINGS": str(settings_file)}
        from cluster import ray_lifecycle
        from cluster.catalog import Catalog, agents, runs
        from cluster.domain.agents import Agent
        from cluster.domain.runs import Run
        from cluster.job_run import JobRun
        from cluster.settings import ROOT, load_settings

        settings = load_settings()
        with Catalog(settings.catalog_url).prepare().transaction() as work:
            agents.save(work, Agent(name="counter"))

        def open_job(job: str, recipe: TrainRecipe) -> JobRun:
            made = JobRun(settings, Run(job=job, recipe=recipe.model_dump(mode="json"), state="running", attempts=1))
            with made.catalog.transaction() as work:
                runs.save(work, made.run)
            return made

        bases = {"starter": ROOT / "models" / "starter", "large": large_base(scratch / "large")}
        ray_lifecycle.start(settings, lambda line: print(line, file=sys.stderr), mlflow=False)
        try:
            found = []
            for name in (name for name in CASES if not given.only or given.only in name):
                found.append(run_case(name, bases, scratch, open_job))
                print(json.dumps(found[-1]), file=sys.stderr)
        finally:
            import ray

            ray.shutdown()
            ray_lifecycle.stop(settings, lambda line: None)
    if given.json:
        print(json.dumps({"cases": found, "worst": max((abs(one["ratio"] - 1) for one in found), default=0.0)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
