"""One trial of a search: the training of `train_jobs.worker`, in Ray Tune's actor, reported at each measurement.

Ray Tune pickles what is here by name, also into the state that a killed search is restored from: the driver's own objects (the run, the
catalog) therefore stay in ``FOLLOWED`` and are never part of it.
"""

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from cluster.domain import tuning
from cluster.domain.recipes import TuneRecipe
from cluster.job_run import JobRun
from cluster.scratch import working_folder
from train_jobs import tune_state

if TYPE_CHECKING:
    from train_jobs.training import WorkerTask

FOLLOWED: dict[str, tuple[JobRun, Path]] = {}
"""The runs of this process by id, each with the folder of its search's state."""
_START_UP, _TRIED = 0.02, 0.93  # of the progress bar


def train_trial(config: dict[str, Any], task: "WorkerTask", recipe: TuneRecipe) -> None:
    """Ray Tune's entry point. A trial that was cut short goes on from its last measurement."""
    from train_jobs import checkpoints, worker

    logging.disable(logging.INFO)
    changed = tuning.with_values(task.recipe, tuning.chosen(recipe, config))

    def send(report: dict[str, Any], folder: Path | None) -> None:
        # A checkpoint is saved at each measurement and at the end, so what comes without one is in between.
        if folder is None or report.get("done"):
            return
        checkpoints.seal(folder, 0, 1, int(report["step"]))
        figures = {name: value for name, value in report.items() if isinstance(value, int | float)}
        tune.report(figures, checkpoint=tune.Checkpoint.from_directory(folder))
        shutil.rmtree(folder, ignore_errors=True)

    held = tune.get_checkpoint()
    with working_folder("trial") as scratch:
        resume = Path(held.to_directory(f"{scratch}/checkpoint")) if held else None
        if resume is not None and checkpoints.damage(resume):
            resume = None
        worker.fit(dataclasses.replace(task, recipe=changed), send, resume)


class Progress(tune.Callback):
    """Tells the run how far its search is, and keeps a copy of the search's state whenever a trial is over."""

    def __init__(self, run_id: str, trials: int) -> None:
        self._run_id, self._trials = run_id, trials

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        self._tell(trials, f"trial {len(trials)} of {self._trials}, step {int(result['step'])}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tell(trials, f"trial {trial.trial_id} has ended")
        if self._run_id in FOLLOWED:
            tune_state.keep(FOLLOWED[self._run_id][1])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tell(trials, f"trial {trial.trial_id} has failed")

    def _tell(self, trials: list[Any], message: str) -> None:
        if self._run_id in FOLLOWED:
            job, _ = FOLLOWED[self._run_id]
            over = sum(trial.is_finished() for trial in trials)
            job.progress(
                _START_UP + _TRIED * over / self._trials, f"{message}; {over} of {self._trials} are over", over=float(over)
            )
