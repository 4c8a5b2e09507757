"""Supervised fine-tuning of the starter model on questions and answers: does it learn what it was not shown?

    python tests/benchmarks/sft.py --rows ROWS.jsonl [--steps 400] [--plot FILE.svg] [--json]

The loss of held-out rows (a tenth) is measured as training goes. Prints the curve, the figures before the first step and after the last,
and speed. Rows are ``instruction``/``output`` or Treadle's own; without a file they are generated.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from training_rows import BASE, PROMPT, rows_of

from cluster.artifacts import Artifacts
from cluster.domain.recipes import DpoRecipe, LoraRecipe, SftRecipe


def learnt(kind: str, given: argparse.Namespace) -> dict[str, Any]:
    """Trains and returns the curve: a dictionary of figures for each measured step."""
    from pydantic import TypeAdapter

    from cluster.domain.datasets import Row
    from train_jobs.training import WorkerTask

    rows = TypeAdapter(list[Row]).validate_python(rows_of(given.rows, kind, given.most))
    common: dict[str, Any] = {
        "agent": "benchmark", "rows": "rows", "max_steps": given.steps, "learning_rate": given.rate, "batch_size": given.batch,
        "threads": given.threads, "checkpoint_every": 10**6, "lora": LoraRecipe(rank=32, alpha=64), "eval_share": 0.1,
        "eval_every": max(1, given.steps // 10),
    }  # fmt: skip
    recipe = SftRecipe(**common) if kind == "sft" else DpoRecipe(**common, parent=None, sft_weight=given.sft_weight)
    curve: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="treadle-benchmark-") as place:
        artifacts = Artifacts(place)
        uri = artifacts.write_rows(rows).uri
        task = WorkerTask(recipe, str(BASE), str(BASE), PROMPT, (uri,), place, Path(place) / "cache", given.threads, "base")
        with contextlib.redirect_stdout(sys.stderr):  # DeepSpeed has something to say; stdout is for the figures
            from train_jobs import worker

            worker.fit(task, lambda report, folder: curve.update({int(one["step"]): one for one in report["points"]}))
    kept = ("step", "loss", "eval_loss", "reward_accuracy", "eval_reward_accuracy", "eval_reward_margin", "tokens_per_s")
    points = [{name: round(one[name], 4) for name in kept if name in one} for _, one in sorted(curve.items())]
    measured = [one for one in points if "eval_loss" in one]
    result = {"rows": len(rows), "steps": given.steps, "curve": points, "held_out": {"first": measured[0], "last": measured[-1]}}
    if given.plot:
        draw(points, given.plot)
    return result


def draw(points: list[dict[str, Any]], path: str) -> None:
    """The curve as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    axes.plot(
        [one["step"] for one in points if "loss" in one], [one["loss"] for one in points if "loss" in one], label="training"
    )
    held = [one for one in points if "eval_loss" in one]  # each figure stands until the next one is measured
    new = [one for before, one in zip([{}, *held], held, strict=False) if before.get("eval_loss") != one["eval_loss"]]
    axes.plot([one["step"] for one in new], [one["eval_loss"] for one in new], marker="o", label="held out")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend()
    figure.savefig(path, bbox_inches="tight")


def arguments(description: str | None, steps: int, rate: float, batch: int) -> argparse.ArgumentParser:
    """The options that both benchmarks have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help="JSON lines")
    parser.add_argument("--most", type=int, default=6000, help="rows")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--rate", type=float, default=rate)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--plot", help="write the curve as a picture to this file")
    parser.add_argument("--json", action="store_true")
    return parser


def main() -> None:
    given = arguments(__doc__, steps=400, rate=3e-3, batch=32).parse_args()
    print(json.dumps(learnt("sft", given), indent=None if given.json else 1))


if __name__ == "__main__":
    main()
