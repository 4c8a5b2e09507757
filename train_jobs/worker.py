"""What runs in each Ray Train worker: base + adapter + TRL trainer, reported step by step, resumable.

Imports torch, transformers, PEFT and TRL at the top (about ten seconds), so only workers import this module; the driver passes
``train_jobs.training.on_worker``, which does it there. ``fit`` needs no Ray.

The order of the rows is computed once (``examples.step_order``) and read sequentially, so "position" is the step number and a resumed
run sees exactly the rows the unbroken one would have seen.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoTokenizer, PrinterCallback, set_seed
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.sft_config import SFTConfig

from cluster.artifacts import Artifacts
from cluster.domain.recipes import DpoRecipe, TrainRecipe
from cluster.errors import InvalidInput
from cluster.scratch import working_folder
from train_jobs import checkpoints, deepspeed, examples, packing, policy, reference
from train_jobs.reporter import HeldOut, Reporter, Send, flops_per_token, peak_flops
from train_jobs.trainers import PairTrainer, RowTrainer

if TYPE_CHECKING:
    from train_jobs.training import WorkerTask

CURVE_POINTS = 50


def run(task: "WorkerTask") -> None:
    """Train on this rank of a Ray Train run. What ends the run for good is reported as ``failed`` with one sentence, not raised: Ray
    would try again."""
    import ray.train

    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()

    def send(report: dict[str, Any], folder: Path | None) -> None:
        if folder is None:
            ray.train.report(report)
            return
        checkpoints.seal(folder, rank, world, int(report["step"]), report["points"])
        held = ray.train.Checkpoint.from_directory(folder)
        ray.train.report(report, checkpoint=held, delete_local_checkpoint_after_upload=True)

    logging.disable(logging.INFO)  # Ray and TRL say every step twice
    with ExitStack() as stack:
        found, sentences = checkpoints.newest_whole(_kept(stack))
        if found is not None:
            sentences.append(f"Training goes on from step {checkpoints.step_of(found)}.")
            ray.train.report({"recalled": checkpoints.points_of(found)})
        for sentence in sentences if rank == 0 else ():
            print(sentence, flush=True)
        try:
            fit(task, send, found)
        except InvalidInput as error:
            ray.train.report({"failed": error.message})


def _kept(stack: ExitStack) -> Iterator[Path]:
    """The run's checkpoints, newest first, each on this machine while ``stack`` lasts: those in its folder, whether or not the controller
    came to list them before it died (Ray names them by their moment)."""
    import ray.train
    from pyarrow.fs import FileSelector, FileType

    storage = ray.train.get_context().get_storage()
    files = storage.storage_filesystem
    found = files.get_file_info(FileSelector(storage.experiment_fs_path, allow_not_found=True))
    folders = [one for one in found if one.type == FileType.Directory and one.base_name.startswith("checkpoint_")]
    for one in sorted(folders, key=lambda folder: folder.base_name, reverse=True):
        try:
            yield Path(stack.enter_context(ray.train.Checkpoint(one.path, files).as_directory()))
        except OSError:  # gone meanwhile
            continue


def fit(task: "WorkerTask", send: Send, resume: Path | None = None) -> None:
    """Train on this rank, from a whole checkpoint on where there is one. Raises InvalidInput for rows nothing can be learnt from."""
    torch.set_num_threads(task.threads)
    recipe = task.recipe
    set_seed(recipe.seed)
    tokenizer = AutoTokenizer.from_pretrained(task.base)
    packed = recipe.packing and packing.packs(AutoConfig.from_pretrained(task.base))
    if isinstance(recipe, DpoRecipe) and not packed:
        raise InvalidInput(f"Preference pairs are trained packed, and '{task.base}' is of an architecture that is not; use SFT.")
    rows = [row for uri in task.uris for row in Artifacts(task.artifacts_url, task.cache).read_rows(uri)]
    found = examples.tokenise(rows, tokenizer, task.prompt, recipe.max_length, pairs=isinstance(recipe, DpoRecipe))
    taught, held = examples.split(found.rows, recipe.eval_share, recipe.seed)
    pool = 1 if packed else examples.POOL_STEPS
    lengths = [row["length"] for row in taught]
    order = examples.step_order(lengths, recipe.batch_size, recipe.max_steps, recipe.seed, pool)
    tokens = sum(lengths[index] for index in order) / recipe.max_steps
    with working_folder("train") as scratch:
        arguments = _arguments(recipe, scratch)  # first: with ZeRO-3 it decides how the model is loaded
        model = policy.load(task, packed)
        world = recipe.workers
        reporter = Reporter(send, tokens, flops_per_token(model.num_parameters()), peak_flops(world))
        held_out = HeldOut(held, deepspeed.micro_batch(recipe), recipe.eval_every, recipe.patience, reporter) if held else None
        callbacks = [*([held_out] if held_out else ()), reporter]
        given = {"model": model, "args": arguments, "processing_class": tokenizer, "callbacks": callbacks}
        trainer = _pair_trainer(task, taught, held, order, given) if isinstance(arguments, DPOConfig) else None
        trainer = trainer or RowTrainer(packed, train_dataset=_columns(taught).select(order), **given)
        trainer.remove_callback(PrinterCallback)
        if held_out:
            held_out.trainer = trainer
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        if reporter.broken:
            raise InvalidInput(reporter.broken)
        final = scratch / "final"
        final.mkdir(exist_ok=True)
        trainer.save_model(str(final))
        loss = _mean_of_last(trainer.state.log_history)
        reporter.send(
            trainer.state.global_step,
            final,
            done=True,
            train_loss=loss,
            dropped=found.dropped,
            left_out=found.named,
            rows=len(found.rows),
        )


def _columns(rows: list[dict[str, Any]]) -> Dataset:
    return Dataset.from_dict({name: [row[name] for row in rows] for name in rows[0] if name != "length"})


def _pair_trainer(
    task: "WorkerTask", taught: list[dict[str, Any]], held: list[dict[str, Any]], order: list[int], given: dict[str, Any]
) -> PairTrainer:
    """The trainer of pairs, the reference's figures in the rows: kept ones, or measured with the model as it is now."""
    every = [*taught, *held]
    artifacts = Artifacts(task.artifacts_url, task.cache)
    key = reference.key_of(every, task.base_digest, task.parent_digest, f"{given['model'].dtype} {task.recipe.quantise}")
    trainer = PairTrainer(train_dataset=_columns(taught), **given)
    logps = reference.known(artifacts, key, len(every))
    if logps is None:
        logps = reference.measure(trainer.reference_model(), every, trainer.accelerator)
        if trainer.accelerator.is_main_process:
            reference.keep(artifacts, key, logps)
    for row, chosen, rejected in zip(every, *logps, strict=True):
        row["ref_chosen_logps"], row["ref_rejected_logps"] = chosen, rejected
    trainer.train_dataset = _columns(taught).select(order)
    return trainer


def _mean_of_last(history: list[dict[str, float]], share: float = 0.1) -> float:
    losses = [entry["loss"] for entry in history if "loss" in entry]
    tail = losses[-max(1, int(len(losses) * share)) :]
    return sum(tail) / len(tail)


def _arguments(recipe: TrainRecipe, scratch: Path) -> SFTConfig | DPOConfig:
    config = deepspeed.zero_config(recipe)
    on_cpu = recipe.gpus_per_worker == 0
    if config is not None:
        deepspeed.join(on_cpu)
    shared: dict[str, Any] = {
        "output_dir": str(scratch),
        "max_steps": recipe.max_steps,
        "per_device_train_batch_size": deepspeed.micro_batch(recipe),
        "gradient_accumulation_steps": deepspeed.accumulation(recipe),
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": math.ceil(recipe.warmup * recipe.max_steps),
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "max_length": None,
        "train_sampling_strategy": "sequential",
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "bf16": recipe.bf16,
        "use_cpu": on_cpu,
        "ddp_backend": ("gloo" if on_cpu else "nccl") if torch.distributed.is_initialized() else None,
        "ddp_find_unused_parameters": False,
        "deepspeed": config,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "logging_steps": max(1, recipe.max_steps // CURVE_POINTS),
        "logging_nan_inf_filter": False,
        "save_strategy": "no" if recipe.patience else "steps",  # with patience a checkpoint goes with each measurement
        "save_steps": recipe.checkpoint_every,
        "save_on_each_node": True,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": not on_cpu,
        **policy.sharding(recipe),
        **policy.kernels(recipe),
    }
    if isinstance(recipe, DpoRecipe):
        losses = ["sigmoid", "sft"] if recipe.sft_weight else ["sigmoid"]
        weights = [1.0, recipe.sft_weight][: len(losses)]
        return DPOConfig(**shared, beta=recipe.beta, loss_type=losses, loss_weights=weights)
    return SFTConfig(**shared, dataset_kwargs={"skip_prepare_dataset": True})
