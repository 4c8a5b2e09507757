"""The driver's side of SFT and DPO: check everything, train on Ray, register the release.

Imports little: torch comes with Ray Train's ``TorchTrainer``, everything heavier only in the workers. Checkpoints lie in the artifact
store under the run's id, so a run that is started again (another attempt, a restarted job) goes on from its last one; they are
removed when the release is registered.
"""

import logging
import os
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster import base_model, ray_lifecycle, unregistered, warm
from cluster.artifacts import read_rows_file
from cluster.catalog import agents, datasets, forgotten, releases
from cluster.domain.agents import Agent
from cluster.domain.base import NAME
from cluster.domain.datasets import Dataset, DatasetKind, rows_digest
from cluster.domain.recipes import DpoRecipe, TrainRecipe
from cluster.domain.releases import CHAMPION, Release
from cluster.domain.runs import MAX_ATTEMPTS
from cluster.errors import Conflict, InvalidInput, JobFailed, NotFound, RecipeError
from cluster.job_run import JobRun
from cluster.model_roles import ModelRole
from cluster.scratch import working_folder
from cluster.settings import ROOT, cpu_cores
from cluster.train_plan import refuse_what_cannot_fit
from cluster.unregistered import Registration
from train_jobs import checkpoints, lora

if TYPE_CHECKING:
    from train_jobs.following import Point, Publish

log = logging.getLogger(__name__)
_KEPT = (
    "train_loss",
    "eval_loss",
    "tokens_per_s",
    "mfu",
    "memory_gb",
    "reward_margin",
    "reward_accuracy",
    "eval_reward_accuracy",
)  # of the last figures, in the release


@dataclass(frozen=True)
class WorkerTask:
    """Everything a worker needs; pickled to each of them."""

    recipe: TrainRecipe
    base: str
    base_path: str
    prompt: str
    uris: tuple[str, ...]
    artifacts_url: str
    cache: Path
    threads: int
    base_digest: str = ""
    parent_uri: str | None = None
    parent_digest: str | None = None


@dataclass(frozen=True)
class Plan:
    """A recipe whose names were looked up and found usable."""

    recipe: TrainRecipe
    card: Agent
    base: ModelRole
    base_digest: str
    inputs: tuple[Dataset, ...]
    parent: Release | None


def on_worker(config: dict[str, WorkerTask]) -> None:
    """Ray Train's entry point on a worker."""
    from train_jobs import worker

    worker.run(config["task"])


def train(job: JobRun, recipe: TrainRecipe) -> dict[str, Any]:
    """The body of both jobs; returns the run's result."""
    if job.run.id in unregistered.waiting(job.settings.home):  # an attempt before this one trained it
        release = unregistered.register_kept(job.registry, job.run.id)
        forget_checkpoints(job)
        return {"release": release.ref, "metrics": release.metrics}
    plan = check(job, recipe)
    job.progress(0.01, "starting workers")
    params = recipe.model_dump(mode="json")
    with ThreadPoolExecutor(1) as background:  # MLflow's seconds pass while the workers start
        opened = background.submit(
            job.registry.start_run, recipe.agent, job.run.id, params, plan.inputs, plan.parent.ref if plan.parent else None
        )
        try:
            return _train(job, plan, opened)
        except BaseException:
            if opened.exception() is None:
                job.registry.finish_run(opened.result(), failed=True)
            raise


def _train(job: JobRun, plan: Plan, opened: "Future[str]") -> dict[str, Any]:
    started = time.monotonic()
    with working_folder("adapter") as scratch:
        adapter = scratch / "adapter"

        def publish(points: "list[Point]") -> None:
            job.registry.log_curves(opened.result(), points)

        figures = fit(job, plan, adapter, scratch / "progress.jsonl", publish)
        mlflow_id = opened.result()
        metrics = {name: float(figures[name]) for name in _KEPT if name in figures}
        job.progress(0.97, "registering the release")
        registration = Registration(
            card=plan.card,
            base_model=plan.base.name,
            base_digest=plan.base_digest,
            inputs=tuple(one.digest for one in plan.inputs),
            indexes=dict(plan.parent.indexes) if plan.parent else None,
            recipe=plan.recipe.model_dump(mode="json"),
            parent=plan.parent.ref if plan.parent else None,
            run_id=job.run.id,
            mlflow_run_id=mlflow_id,
            metrics=metrics,
            bump=plan.recipe.bump or ("minor" if isinstance(plan.recipe, DpoRecipe) else None),
        )
        release = unregistered.register(job.registry, adapter, registration)
        job.registry.finish_run(mlflow_id)
    forget_checkpoints(job)
    return {
        "release": release.ref,
        "steps": int(figures["step"]),
        "repeated_steps": int(figures["repeated_steps"]),
        "rows": int(figures["rows"]),
        "dropped": figures["dropped"],
        "left_out": figures["left_out"],
        "metrics": metrics,
        "seconds": round(time.monotonic() - started, 1),
    }


# Checks


def check(job: JobRun, recipe: TrainRecipe) -> Plan:
    """Look up and check everything the recipe names. Raises one sentence before any worker is asked for."""
    settings = job.settings
    base = base_model.base_role(settings, recipe.base)
    if base.endpoint:
        raise RecipeError(
            f"Base '{base.name}' is an endpoint ({base.endpoint}); adapters grow only on weights: set a path or a hub id."
        )
    if recipe.base and not Path(base.location).is_dir() and not NAME.fullmatch(recipe.base.split("/")[0].lower()):
        raise RecipeError(f"Base '{recipe.base}' is neither a directory nor a model id; set 'base' to one of them.")
    lora.check(recipe.lora, base.location, base.name, base_model.engine_of(settings, base).max_lora_rank)
    refuse_what_cannot_fit(settings, recipe)
    digest = base_model.base_digest(base)
    with job.catalog.reading() as work:
        card = agents.get(work, recipe.agent)
        parent = _parent(work, recipe)
    if parent is not None and parent.base_digest != digest:
        raise RecipeError(
            f"Release {parent.ref} is an adapter of base '{parent.base_model}' ({parent.base_digest[:12]}), not of '{base.name}' "
            f"({digest[:12]}); train on its base, or without a parent."
        )
    kind: DatasetKind = "dpo" if isinstance(recipe, DpoRecipe) else "sft"
    found = inputs(job, recipe.agent, kind, recipe.datasets, recipe.rows)
    if isinstance(recipe, DpoRecipe):
        found += inputs(job, recipe.agent, "sft", recipe.replay, None)
    return Plan(recipe, card, base, digest, found, parent)


def _parent(work: Any, recipe: TrainRecipe) -> Release | None:
    if recipe.parent is None:
        return None
    if recipe.parent != CHAMPION:
        return releases.get(work, recipe.parent)
    return releases.champion(work, recipe.agent)


def inputs(job: JobRun, name: str, kind: DatasetKind, refs: tuple[str, ...], file: str | None) -> tuple[Dataset, ...]:
    """The datasets that a recipe names, or the one made of its ``rows`` file. Raises InvalidInput when one is empty or of another kind."""
    if file is not None:
        return (_dataset_of_file(job, name, kind, Path(file)),)
    with job.catalog.reading() as work:
        found = tuple(datasets.get(work, ref) for ref in refs)
        marked = forgotten.marks(work, "dataset")
    for one in found:
        if one.digest in marked:
            raise Conflict(
                f"Dataset '{one.ref}' {marked[one.digest]}; train on its successor, the newest of its name (treadle data datasets)."
            )
        if one.kind != kind:
            raise InvalidInput(f"Dataset '{one.ref}' holds {one.kind} rows; this job needs {kind} rows.")
    return found


def _dataset_of_file(job: JobRun, name: str, kind: DatasetKind, file: Path) -> Dataset:
    file = file if file.is_file() else ROOT / file  # a Ray job may run in a directory of its own
    if not file.is_file():
        raise NotFound(f"There is no file '{file}' (rows); give the path of a JSONL file of {kind} rows.")
    rows = read_rows_file(file)
    if not rows:
        raise InvalidInput(f"{file} has no rows; a dataset needs at least one.")
    for number, row in enumerate(rows, 1):
        if row.kind != kind:
            raise InvalidInput(f"{file}, row {number} is a {row.kind} row; this job needs {kind} rows.")
    bundle = job.artifacts.write_rows(rows)
    called = f"{name[:48].rstrip('._-')}-{kind}-rows"  # a dataset's name has 64 characters at most
    dataset = Dataset(digest=rows_digest(rows), name=called, kind=kind, agent=name, rows=len(rows), uri=bundle.uri)
    with job.catalog.transaction() as work:
        datasets.add(work, dataset)
    return dataset


# Ray


def _warm(job: JobRun) -> dict[str, Any] | None:
    """Ray's runtime environment on this machine: processes come from the warm server."""
    found = ray_lifecycle.state(job.settings)
    if job.settings.ray.address is not None or found is None or not found.scratch:
        return None
    if "py_executable" in os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", ""):
        return None  # the job was submitted with it, and what it starts inherits it
    return {"py_executable": warm.python(found.scratch)}


def storage(job: JobRun) -> str:
    """Where Ray Train keeps its runs: the run's id is the folder below."""
    return f"{job.artifacts.root}/training"


def forget_checkpoints(job: JobRun, root: str | None = None) -> None:
    """Remove the run's checkpoints (those below ``root``): its result holds what they were for."""
    root = root or storage(job)
    if "://" not in root:
        shutil.rmtree(Path(root) / job.run.id, ignore_errors=True)
        return
    import fsspec

    filesystem, place = fsspec.core.url_to_fs(f"{root}/{job.run.id}")
    if filesystem.exists(place):
        filesystem.rm(place, recursive=True)


def worker_task(job: JobRun, plan: Plan, threads: int) -> WorkerTask:
    """What a worker needs to train this plan."""
    return WorkerTask(
        recipe=plan.recipe,
        base=plan.base.location,
        base_path=plan.base.path,
        prompt=plan.card.prompt,
        uris=tuple(one.uri for one in plan.inputs),
        artifacts_url=job.settings.artifacts_url,
        cache=job.settings.home / "cache",
        threads=threads,
        base_digest=plan.base_digest,
        parent_uri=plan.parent.adapter_uri if plan.parent else None,
        parent_digest=plan.parent.adapter_digest if plan.parent else None,
    )


def fit(job: JobRun, plan: Plan, adapter: Path, progress: Path, publish: "Publish") -> dict[str, Any]:
    """Train; leaves the adapter's files in ``adapter``. ``publish`` gets the curve's points as they come. Returns the last figures."""
    # Figures are fetched when Ray polls; its two seconds would hold back workers that report more often.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")
    if job.settings.ray.address is None:
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # one machine is not preempted under itself
    ray_lifecycle.join(job.settings, worker_output=True, runtime=_warm(job))
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig

    from train_jobs.following import Follower, Recorder
    from train_jobs.ray_trainer import LeanTrainer, backend

    recipe = plan.recipe
    threads = recipe.threads or max(1, cpu_cores() // recipe.workers)
    task = worker_task(job, plan, threads)
    resources = {"CPU": float(threads), **({"GPU": recipe.gpus_per_worker} if recipe.gpus_per_worker else {})}
    best: dict[str, Any] = {"checkpoint_score_attribute": "eval_loss", "checkpoint_score_order": "min"} if recipe.patience else {}
    trainer = LeanTrainer(
        on_worker,
        train_loop_config={"task": task},
        torch_config=backend(recipe),
        scaling_config=ScalingConfig(
            num_workers=recipe.workers, use_gpu=bool(recipe.gpus_per_worker), resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=job.run.id,
            storage_path=storage(job),
            failure_config=FailureConfig(max_failures=MAX_ATTEMPTS - 1),
            checkpoint_config=CheckpointConfig(num_to_keep=2, **best),
            callbacks=[Recorder(str(progress))],
            worker_runtime_env={
                **(_warm(job) or {}),
                "env_vars": {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"},
            },
        ),
    )
    if wrong := checkpoints.forget_broken_list(f"{storage(job)}/{job.run.id}"):
        log.warning(wrong)
    with Follower(job, progress, recipe.max_steps, publish) as follower:
        result = trainer.fit()
    if follower.failed:
        raise JobFailed(follower.failed)
    if not follower.last.get("done") or result.checkpoint is None:
        raise JobFailed(f"The workers of run {job.run.id} ended without an adapter; see treadle runs logs {job.run.id}.")
    kept = result.checkpoint
    if recipe.patience and result.best_checkpoints:
        kept = min(result.best_checkpoints, key=lambda one: one[1]["eval_loss"])[0]
    with kept.as_directory() as folder:
        checkpoints.take_adapter(Path(folder), adapter)
    return {**follower.last, "repeated_steps": follower.repeated}
