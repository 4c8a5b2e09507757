"""What runs in each Ray Train worker: base + adapter + TRL trainer, reported step by step, resumable.

Imports torch, transformers, PEFT and TRL at the top (about ten seconds), so only workers import this module; the driver passes
``train_jobs.training.on_worker``, which does it there.

The order of the rows is computed once (``examples.step_order``) and read sequentially, so "position" is the step number and a resumed
run sees exactly the rows the unbroken one would have seen.
"""

import logging
import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray.train
import torch
from datasets import Dataset
from peft import PeftModel, get_peft_model
from ray.train import Checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback, set_seed
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from cluster.artifacts import Artifacts
from cluster.domain.recipes import DpoRecipe, TrainRecipe
from cluster.errors import InvalidInput
from train_jobs import deepspeed, examples, lora

if TYPE_CHECKING:
    from train_jobs.training import WorkerTask

CURVE_POINTS = 50
_CURVES = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "rewards/margins": "reward_margin",
    "rewards/accuracies": "reward_accuracy",
}


class AnswerTrainer(SFTTrainer):
    """SFT whose output layer, on a CPU, sees only the columns where some row has its answer.

    TRL scores every position outside Triton devices; with a small model the output layer is a third of the work. On a GPU TRL's own
    fused head is better, and used.
    """

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        labels = inputs["labels"]
        if labels.device.type != "cpu" or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        first = int((labels != examples.IGNORED).any(dim=0).int().argmax())
        targets = labels[:, first:]
        rest = {name: value for name, value in inputs.items() if name != "labels"}
        logits = model(**rest, use_cache=False, logits_to_keep=targets.size(1) + 1).logits[:, :-1]
        answered = targets != examples.IGNORED
        total = torch.nn.functional.cross_entropy(logits[answered].float(), targets[answered], reduction="sum")
        if num_items_in_batch is None:
            return total / answered.sum().clamp(min=1)
        loss = total / torch.as_tensor(num_items_in_batch).clamp(min=1)
        return loss * self.accelerator.num_processes if self.args.average_tokens_across_devices else loss

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """A checkpoint needs none."""


class PairTrainer(DPOTrainer):
    """DPO on rows that are tokenised already, with the reference's log-probabilities computed once.

    TRL does compute them once, but through a cache file in a directory of rank 0's own, which other ranks do not find. The reference is
    the adapter as it was when training began; its copy is dropped when the figures are there.
    """

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        from torch.utils.data import DataLoader
        from trl.models.utils import prepare_deepspeed

        loader = self.accelerator.prepare(
            DataLoader(dataset, batch_size=batch_size, collate_fn=self.data_collator, shuffle=False)
        )
        # Sharded parameters (ZeRO-3) are whole only inside an engine.
        model = prepare_deepspeed(self.model, self.accelerator) if self.is_deepspeed_enabled else self.model
        model.eval()
        found: list[tuple[torch.Tensor, torch.Tensor]] = []
        for batch in loader:
            pair = self.accelerator.gather_for_metrics(self.compute_ref_log_probs(model, batch))
            found.append((pair[0].float().cpu(), pair[1].float().cpu()))
        chosen, rejected = (torch.cat(column).tolist() for column in zip(*found, strict=True))
        unwrapped = self.accelerator.unwrap_model(self.model)
        if "ref" in unwrapped.peft_config and not self.is_deepspeed_enabled:
            unwrapped.delete_adapter("ref")
        self.model.train()
        columns = {column: dataset[column] for column in dataset.column_names}
        return Dataset.from_dict({**columns, "ref_chosen_logps": chosen, "ref_rejected_logps": rejected})

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """A checkpoint needs none."""


class Reporter(TrainerCallback):
    """Sends figures and checkpoints to Ray Train from every rank, and stops a run whose loss is no number."""

    def __init__(self, tokens_per_step: float) -> None:
        self._tokens_per_step = tokens_per_step
        self._mark: tuple[float, int] | None = None
        self._newest: dict[str, float] = {}
        self.broken: str | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark = (time.perf_counter(), state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        start, first = self._mark or (time.perf_counter(), 0)
        speed = (state.global_step - first) * self._tokens_per_step / max(time.perf_counter() - start, 1e-6)
        self._newest = {ours: float(logs[theirs]) for theirs, ours in _CURVES.items() if theirs in logs}
        self._newest["tokens_per_s"] = round(speed, 1)
        if not math.isfinite(self._newest["loss"]):
            self.broken = f"The loss is {self._newest['loss']} at step {state.global_step}; lower learning_rate or max_grad_norm."
            control.should_training_stop = True
            control.should_save = False
            return
        ray.train.report({"step": state.global_step, **self._newest})

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        report = {"step": state.global_step, **self._newest, "saved": True}
        ray.train.report(report, checkpoint=Checkpoint.from_directory(folder), delete_local_checkpoint_after_upload=True)

    @property
    def newest(self) -> dict[str, float]:
        """The figures of the last report."""
        return dict(self._newest)


def run(task: "WorkerTask") -> None:
    """Train on this rank. What ends the run for good is reported as ``failed`` with one sentence, not raised: Ray would try again."""
    torch.set_num_threads(task.threads)
    logging.disable(logging.INFO)  # Ray and TRL say every step twice
    try:
        _train(task)
    except InvalidInput as error:
        ray.train.report({"failed": error.message})


def _train(task: "WorkerTask") -> None:
    recipe = task.recipe
    set_seed(recipe.seed)
    tokenizer = AutoTokenizer.from_pretrained(task.base)
    rows = [row for uri in task.uris for row in Artifacts(task.artifacts_url, task.cache).read_rows(uri)]
    found = examples.tokenise(rows, tokenizer, task.prompt, recipe.max_length, pairs=isinstance(recipe, DpoRecipe))
    order = examples.step_order(found.lengths, recipe.batch_size, recipe.max_steps, recipe.seed)
    tokens = sum(found.lengths[index] for index in order) / recipe.max_steps
    with tempfile.TemporaryDirectory(prefix="treadle-train-") as scratch:
        trainer, reporter = _trainer(task, tokenizer, found, order, scratch, tokens)
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            trainer.train()
        else:
            with checkpoint.as_directory() as folder:
                trainer.train(resume_from_checkpoint=folder)
        if reporter.broken:
            ray.train.report({"failed": reporter.broken})
            return
        final = Path(scratch) / "final"
        final.mkdir(exist_ok=True)
        trainer.save_model(str(final))
        last = {"step": trainer.state.global_step, **reporter.newest, "train_loss": _mean_of_last(trainer.state.log_history)}
        done = {**last, "done": True, "dropped": found.dropped, "rows": len(found.rows)}
        ray.train.report(done, checkpoint=Checkpoint.from_directory(final))


def _mean_of_last(history: list[dict[str, float]], share: float = 0.1) -> float:
    losses = [entry["loss"] for entry in history if "loss" in entry]
    tail = losses[-max(1, int(len(losses) * share)) :]
    return sum(tail) / len(tail)


def _trainer(
    task: "WorkerTask", tokenizer: Any, found: examples.Examples, order: list[int], scratch: str, tokens: float
) -> tuple[AnswerTrainer | PairTrainer, Reporter]:
    arguments = _arguments(task.recipe, scratch)  # first: with ZeRO-3 it decides how the model is loaded
    model = _model(task)
    reporter = Reporter(tokens)
    columns = [name for name in found.rows[0] if name != "length"]
    unique = Dataset.from_dict({name: [row[name] for row in found.rows] for name in columns})
    trainer: AnswerTrainer | PairTrainer
    if isinstance(arguments, DPOConfig):
        trainer = PairTrainer(model=model, args=arguments, train_dataset=unique, processing_class=tokenizer, callbacks=[reporter])
        trainer.train_dataset = trainer.train_dataset.select(order)
    else:
        trainer = AnswerTrainer(
            model=model, args=arguments, train_dataset=unique.select(order), processing_class=tokenizer, callbacks=[reporter]
        )
    trainer.remove_callback(PrinterCallback)
    return trainer, reporter


def _arguments(recipe: TrainRecipe, scratch: str) -> SFTConfig | DPOConfig:
    config = deepspeed.zero_config(recipe)
    on_cpu = recipe.gpus_per_worker == 0
    if config is not None:
        deepspeed.join(on_cpu)
    shared: dict[str, Any] = {
        "output_dir": scratch,
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
        "ddp_backend": "gloo" if on_cpu else "nccl",
        "ddp_find_unused_parameters": False,
        "deepspeed": config,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "logging_steps": max(1, recipe.max_steps // CURVE_POINTS),
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": recipe.checkpoint_every,
        "save_on_each_node": True,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": not on_cpu,
    }
    if isinstance(recipe, DpoRecipe):
        losses = ["sigmoid", "sft"] if recipe.sft_weight else ["sigmoid"]
        weights = [1.0, recipe.sft_weight][: len(losses)]
        return DPOConfig(**shared, beta=recipe.beta, loss_type=losses, loss_weights=weights, precompute_ref_log_probs=True)
    return SFTConfig(**shared, dataset_kwargs={"skip_prepare_dataset": True})


def _model(task: "WorkerTask") -> PeftModel:
    recipe = task.recipe
    dtype = torch.bfloat16 if recipe.bf16 else torch.float32
    base = AutoModelForCausalLM.from_pretrained(task.base, dtype=dtype, attn_implementation="sdpa")
    base.config.use_cache = False
    # ZeRO-3 gathers base and adapter in one buffer, so they must have one type.
    upcast = recipe.zero != 3
    if task.parent_uri is None:
        return get_peft_model(base, lora.peft_config(recipe.lora, task.base_path), autocast_adapter_dtype=upcast)
    adapter = Artifacts(task.artifacts_url, task.cache).fetch(task.parent_uri, task.parent_digest)
    return PeftModel.from_pretrained(base, str(adapter), is_trainable=True, autocast_adapter_dtype=upcast)
