"""What a training says while it goes: figures and checkpoints for whoever follows, the held-out loss, and when to stop."""

import math
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

Send = Callable[[dict[str, Any], Path | None], None]
"""Takes a report, and the folder of a checkpoint that goes with it. Every rank sends the same number of reports."""
_CURVES = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "rewards/margins": "reward_margin",
    "rewards/accuracies": "reward_accuracy",
}
_SEND_SECONDS = 1.0  # a report may wait for whoever collects it: more often would hold up the steps
_MEASURED_STEPS = 50  # speed and time left are of the last steps: the first are slow, and machines change


class Reporter(TrainerCallback):
    """Sends figures at each logged step and a checkpoint at each saved one, from every rank; stops a run whose loss is no number.

    ``tokens_per_step``: of all ranks. ``flops_per_token`` and ``peak_flops`` (of all GPUs) give the model FLOPs utilisation (Chowdhery
    et al., 2022, arXiv:2204.02311, appendix B); without a GPU it is left out.
    """

    def __init__(self, send: Send, tokens_per_step: float, flops_per_token: float = 0.0, peak_flops: float = 0.0) -> None:
        self._send, self._tokens_per_step = send, tokens_per_step
        self._utilisation = flops_per_token / peak_flops if peak_flops else 0.0
        self._ticks: list[tuple[int, float]] = []
        self._points: list[dict[str, float]] = []
        self._sent = 0.0
        self._asked = False
        self.newest: dict[str, float] = {}
        self.broken: str | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.resume(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._ticks = [*self._ticks[-_MEASURED_STEPS:], (state.global_step, time.perf_counter())]

    def measured(self, step: int, figures: dict[str, float]) -> None:
        """Takes the held-out rows' figures: they are reported with this step, and speed is measured anew from here."""
        self.newest |= figures
        self._asked = True
        self.resume(step)

    def resume(self, step: int) -> None:
        """Measure speed from here."""
        self._ticks = [(step, time.perf_counter())]

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        self.newest |= {ours: float(logs[theirs]) for theirs, ours in _CURVES.items() if theirs in logs}
        self._measure(state.max_steps)
        if not math.isfinite(self.newest["loss"]):
            self.broken = f"The loss is {self.newest['loss']} at step {state.global_step}; lower learning_rate or max_grad_norm."
            control.should_training_stop = True
            control.should_save = False
            return
        self._points.append({"step": float(state.global_step), **self.newest})
        if self._due():
            self.send(state.global_step, None)

    def _measure(self, last: int) -> None:
        (first, began), (step, ended) = self._ticks[0], self._ticks[-1]
        if step > first:
            seconds = max((ended - began) / (step - first), 1e-9)
            speed = self._tokens_per_step / seconds
            self.newest |= {"tokens_per_s": round(speed, 1), "seconds_left": round((last - step) * seconds, 1)}
            self.newest |= {"mfu": round(self._utilisation * speed, 4)} if self._utilisation else {}
        self.newest["memory_gb"] = memory_gb()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self.send(state.global_step, folder, saved=True)

    def _due(self) -> bool:
        """Whether it is time for a report: rank 0's clock says so to all of them."""
        due = self._asked or time.perf_counter() - self._sent >= _SEND_SECONDS
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
            said = torch.tensor([due], dtype=torch.uint8, device=device)
            torch.distributed.broadcast(said, 0)
            return bool(said)
        return due

    def send(self, step: int, folder: Path | None, **more: Any) -> None:
        """A report with the newest figures, and under ``points`` those of each logged step since the last one."""
        points, self._points, self._sent, self._asked = self._points, [], time.perf_counter(), False
        self._send({"step": step, **self.newest, **more, "points": points}, folder)


def memory_gb() -> float:
    """The most memory this process has held, in GB: of the GPU where there is one."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e9, 3)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3)


def peak_flops(world: int) -> float:
    """Dense bfloat16 FLOP/s of ``world`` GPUs of this kind, from their data sheets; 0 for a kind that is not known here."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    known = {"H200": 989e12, "H100": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12}
    return world * next((flops for kind, flops in known.items() if kind in name), 0.0)


def flops_per_token(parameters: int) -> float:
    """Of training an adapter: 2 a parameter forward and 2 for the gradient of what goes in; the base's weights have no gradient, so the
    usual 6 are 4. Attention's own products are left out."""
    return 4.0 * parameters


class HeldOut(TrainerCallback):
    """The loss on rows that are not trained on, every ``every`` steps; after ``patience`` times without a better one training stops.

    Each rank takes its share of the batches; all take equally many, because sharded models compute together.
    """

    def __init__(
        self, rows: Sequence[dict[str, Any]], per_batch: int, every: int, patience: int | None, reporter: Reporter
    ) -> None:
        self._rows = sorted(rows, key=lambda row: row.get("length", 0))
        self._per_batch, self._every, self._patience, self._reporter = per_batch, every, patience, reporter
        self.trainer: Any = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self._every and state.global_step != state.max_steps:
            return
        figures = self.measure()
        self._reporter.measured(state.global_step, figures)
        earlier = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
        state.log_history.append({"step": state.global_step, **figures})
        control.should_log = True
        if self._patience is None:
            return
        control.should_save = True  # the best one is what is kept
        losses = [*earlier, figures["eval_loss"]]
        if len(losses) - 1 - losses.index(min(losses)) >= self._patience:
            control.should_training_stop = True

    def measure(self) -> dict[str, float]:
        """The figures of the model as it is."""
        trainer = self.trainer
        rank, world = trainer.accelerator.process_index, trainer.accelerator.num_processes
        starts = range(0, len(self._rows), self._per_batch)
        turns = math.ceil(len(starts) / world)
        model = trainer.model_wrapped
        model.eval()
        sums: torch.Tensor | None = None
        with torch.no_grad():
            for turn in range(turns):
                mine = turn * world + rank
                start = starts[min(mine, len(starts) - 1)]
                columns = [{k: v for k, v in row.items() if k != "length"} for row in self._rows[start : start + self._per_batch]]
                batch = trainer._prepare_inputs(trainer.data_collator(columns))
                found = trainer.score(model, batch) * (mine < len(starts))
                sums = found if sums is None else sums + found
        model.train()
        assert sums is not None
        whole = trainer.accelerator.reduce(sums.float()) if world > 1 else sums
        return {name: float(value) for name, value in trainer.figures(whole.tolist()).items()}
