"""A search over a recipe's fields: `python -m train_jobs.tune --recipe configs/train/tune.yaml`.

Ray Tune runs the trials, Optuna's TPE sampler (Watanabe, 2023, arXiv:2304.11127) suggests them, ASHA ends the poor ones early. The state
lies in the artifact store under the run's id: a search whose driver was killed goes on, and trials that are over are not repeated. What
comes out is a recipe file for `treadle train sft` (or dpo), with a table and plots of all trials; no release is made.
"""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any, Sequence

import yaml

from cluster import job_run, ray_lifecycle
from cluster.artifacts import write_whole
from cluster.domain import tuning
from cluster.domain.recipes import TrainRecipe, TuneRecipe
from cluster.errors import JobFailed
from cluster.job_run import JobRun
from cluster.scratch import working_folder
from cluster.settings import cpu_cores, whole_tune_recipe
from train_jobs import training, tune_state

_FIGURES = ("eval_loss", "eval_exact", "eval_reward_accuracy", "eval_reward_margin", "loss", "step", "memory_gb")


def run(job: JobRun, recipe: TuneRecipe) -> dict[str, Any]:
    """The job's body."""
    started = time.monotonic()
    recipe = whole_tune_recipe(recipe)
    base = tuning.base_recipe(recipe)
    tuning.check_space(recipe, base)
    plan = training.check(job, base)
    job.progress(0.01, "starting trials")
    grid = search(job, recipe, plan)
    rows = table(recipe, grid)
    good = [row for row in rows if row["value"] is not None]
    if not good:
        said = next((row["error"] for row in rows if row["error"]), "no trial was measured")
        raise JobFailed(f"All {len(rows)} trials of run {job.run.id} failed; the first said: {said}")
    best = (min if recipe.mode == "min" else max)(good, key=lambda row: row["value"])
    winner = tuning.with_values(base, best["fields"])
    job.progress(0.96, "writing the winner")
    uri = publish(job, recipe, rows, best, winner, plan)
    training.forget_checkpoints(job, _storage(job))
    return {
        "winner": winner_file(recipe, winner, best, job.run.id),
        "uri": uri,
        "metric": recipe.metric,
        "value": best["value"],
        "fields": best["fields"],
        "trials": len(rows),
        "stopped_early": sum(row["state"] == "stopped early" for row in rows),
        "failed": sum(row["state"] == "failed" for row in rows),
        "seconds": round(time.monotonic() - started, 1),
    }


def _storage(job: JobRun) -> str:
    return f"{job.artifacts.root}/tuning"


def search(job: JobRun, recipe: TuneRecipe, plan: training.Plan) -> Any:
    """All trials, from where an earlier process left them; Ray Tune's result grid."""
    # What a killed driver had not noted yet is tried again; Ray's own choice is once in ten seconds or more.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    ray_lifecycle.join(job.settings)
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    from train_jobs import trials

    trials.FOLLOWED[job.run.id] = (job, Path(f"{_storage(job)}/{job.run.id}"))
    base = plan.recipe
    threads = base.threads or max(1, cpu_cores() // recipe.at_once)
    resources = {"CPU": float(threads), **({"GPU": base.gpus_per_worker} if base.gpus_per_worker else {})}
    task = training.worker_task(job, plan, threads)
    trainable = tune.with_resources(tune.with_parameters(trials.train_trial, task=task, recipe=recipe), resources)
    place = f"{_storage(job)}/{job.run.id}"
    known = tune_state.mend(Path(place)) if "://" not in place else tune.Tuner.can_restore(place)
    if known:
        return tune.Tuner.restore(place, trainable, resume_unfinished=True, restart_errored=False).fit()
    longest = tuning.most_steps(recipe, base)
    asha = ASHAScheduler(
        time_attr="step", max_t=longest, grace_period=min(recipe.grace, longest), reduction_factor=recipe.reduction
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric=recipe.metric,
            mode=recipe.mode,
            search_alg=OptunaSearch(space=distributions(recipe, base), metric=recipe.metric, mode=recipe.mode, seed=recipe.seed),
            scheduler=asha,
            num_samples=recipe.trials,
            max_concurrent_trials=recipe.at_once,
            reuse_actors=True,  # the next trial finds torch imported
        ),
        run_config=tune.RunConfig(
            name=job.run.id,
            storage_path=_storage(job),
            verbose=0,
            callbacks=[trials.Progress(job.run.id, recipe.trials)],
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        ),
    )
    return tuner.fit()


def distributions(recipe: TuneRecipe, base: TrainRecipe) -> dict[str, Any]:
    """The space as Optuna knows it. Choices are texts there: it takes no lists."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    kinds = tuning.fields(type(base))
    found: dict[str, Any] = {}
    for name, wanted in recipe.space.items():
        if wanted.values is not None:
            found[name] = CategoricalDistribution([tuning.category(value) for value in wanted.values])
        elif tuning.whole(kinds[name]):
            found[name] = IntDistribution(int(wanted.span[0]), int(wanted.span[1]), log=wanted.log)
        else:
            found[name] = FloatDistribution(*wanted.span, log=wanted.log)
    return found


def table(recipe: TuneRecipe, grid: Any) -> list[dict[str, Any]]:
    """A row for each trial in the order in which they were suggested. ``value`` is the metric when last measured; None where it failed."""
    rows = []
    for number, result in enumerate(grid):
        sampled = {name: (result.config or {})[name] for name in recipe.space}
        figures = {name: result.metrics[name] for name in _FIGURES if name in (result.metrics or {})}
        value = figures.get(recipe.metric)
        fields = tuning.chosen(recipe, sampled)
        broken = result.error is not None or value is None or not math.isfinite(value)
        whole = figures.get("step", 0) >= fields.get("max_steps", _steps(recipe))
        rows.append(
            {
                "trial": number,
                "id": (result.metrics or {}).get("trial_id"),
                "state": "failed" if broken else "finished" if whole else "stopped early",
                "value": None if broken else float(value),
                "fields": fields,
                "sampled": sampled,
                "figures": figures,
                "ended": (result.metrics or {}).get("timestamp"),
                "seconds": round(float((result.metrics or {}).get("time_total_s", 0.0)), 1),
                "error": _said(result.error) if result.error is not None else None,
            }
        )
    return rows


def _steps(recipe: TuneRecipe) -> int:
    return tuning.base_recipe(recipe).max_steps


def _said(error: BaseException) -> str:
    """The last line of what a trial's process said: its own error, without the stack."""
    return str(error).strip().splitlines()[-1]


def winner_file(recipe: TuneRecipe, winner: TrainRecipe, best: dict[str, Any], run_id: str) -> str:
    """The winner as the text of a recipe file: what the base said, and what the search found. The rows that the search held out are
    trained too."""
    assert isinstance(recipe.base, dict)
    said = set(recipe.base) | {name.split(".")[0] for name in recipe.space}
    value = {name: inner for name, inner in winner.model_dump(mode="json", exclude_defaults=True).items() if name in said}
    for name in ("eval_share", "eval_every", "checkpoint_every", "patience"):
        value.pop(name, None)
        if name in recipe.base:
            value[name] = recipe.base[name]
    head = f"# Found by run {run_id}: {recipe.metric} {best['value']:.4g}, trial {best['trial'] + 1} of {recipe.trials}.\n"
    head += f"#   treadle train {recipe.job} --recipe THIS_FILE\n"
    return head + yaml.safe_dump(value, sort_keys=False)


def publish(
    job: JobRun, recipe: TuneRecipe, rows: list[dict[str, Any]], best: dict[str, Any], winner: TrainRecipe, plan: training.Plan
) -> str:
    """Keep the winner, the table and the plots in the artifact store, and tell MLflow. Returns the bundle's URI."""
    from train_jobs import tune_plots

    with working_folder("tune") as folder:
        write_whole(folder / "winner.yaml", winner_file(recipe, winner, best, job.run.id).encode())
        write_whole(folder / "trials.json", json.dumps(rows, indent=1).encode())
        tune_plots.draw(recipe, rows, distributions(recipe, plan.recipe), folder)
        bundle = job.artifacts.publish("tuning-result", folder, {"run": job.run.id, "agent": plan.recipe.agent})
        job.registry.record_search(
            plan.recipe.agent, job.run.id, recipe.model_dump(mode="json"), plan.inputs, {recipe.metric: best["value"]}, folder
        )
    return bundle.uri


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; the result is one line of JSON on stdout."""
    return job_run.main("train_jobs.tune", TuneRecipe, run, argv)


if __name__ == "__main__":
    sys.exit(main())
