"""TRL's trainers on rows that are tokenised already, packed (``train_jobs.packing``) or padded.

Both have ``score(model, batch)``: sums over a batch, from which training's figures and those on held-out rows are made alike.
"""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy, logsigmoid
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_trainer import SFTTrainer

from train_jobs.examples import IGNORED
from train_jobs.packing import logits_at, pack_pairs, pack_rows


class RowTrainer(SFTTrainer):
    """SFT whose output layer sees only the places where an answer is predicted.

    TRL scores every position of the padded batch outside Triton devices; with a small model the output layer is a third of the work.
    """

    FIGURES = ("loss",)

    def __init__(self, packed: bool, **rest: Any) -> None:
        super().__init__(**rest, data_collator=pack_rows if packed else None)
        self.packed = packed

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        logits, targets, _ = self._answers(model, inputs)
        total, count = cross_entropy(logits, targets, reduction="sum"), torch.as_tensor(targets.numel(), device=logits.device)
        if num_items_in_batch is None:
            return total / count.clamp(min=1)
        loss = total / torch.as_tensor(num_items_in_batch, device=total.device).clamp(min=1)
        return loss * self.accelerator.num_processes if self.args.average_tokens_across_devices else loss

    def _answers(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (n, vocabulary) where an answer's token is predicted, that token (n,), and the number of its row (n,)."""
        labels = inputs["labels"]
        if self.packed:
            places = (labels[0, 1:] != IGNORED).nonzero()[:, 0]
            row = inputs["back"][places] // inputs["rows"].shape[1]
            return logits_at(model, inputs, places), labels[0, 1:][places], row
        first = max(1, int((labels != IGNORED).any(dim=0).int().argmax()))
        targets = labels[:, first:]
        rest = {name: value for name, value in inputs.items() if name != "labels"}
        logits = model(**rest, use_cache=False, logits_to_keep=targets.size(1) + 1).logits[:, :-1]
        answered = targets != IGNORED
        return logits[answered].float(), targets[answered], answered.nonzero()[:, 0]

    def score(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """(negative log-likelihood, tokens, answers that are right word for word, answers), summed over the batch."""
        logits, targets, row = self._answers(model, inputs)
        wrong = torch.unique(row[logits.argmax(-1) != targets]).numel()
        answers = torch.unique(row).numel()
        counts = torch.tensor([targets.numel(), answers - wrong, answers], dtype=torch.double, device=logits.device)
        return torch.cat([cross_entropy(logits, targets, reduction="sum").double()[None], counts])

    @staticmethod
    def figures(sums: Sequence[float]) -> dict[str, float]:
        """What ``score``'s sums say: mean loss per token of the answers, and the share of answers that greedy decoding would give word
        for word. It does where every token is the likeliest after the ones before it, so no text has to be generated."""
        return {"eval_loss": sums[0] / max(sums[1], 1.0), "eval_exact": sums[2] / max(sums[3], 1.0)}

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """A checkpoint needs none."""


class PairTrainer(DPOTrainer):
    """DPO (Rafailov et al., 2023, arXiv:2305.18290), packed: a pair's prompt is computed once for both answers, and the reference's
    log-probabilities come with the rows.

    Only the ``sigmoid`` and ``sft`` losses. Margins and accuracies are means over true pairs: a replayed row has none.
    """

    def __init__(self, **rest: Any) -> None:
        super().__init__(**rest, data_collator=pack_pairs)
        unwrapped = self.accelerator.unwrap_model(self.model)
        if "ref" in unwrapped.peft_config:  # TRL's copy of the adapter; its figures are in the rows
            unwrapped.delete_adapter("ref")

    def reference_model(self) -> Any:
        """The model as it is before the first step; sharded parameters (ZeRO-3) are whole only inside an engine."""
        if not self.is_deepspeed_enabled or self.args.hf_deepspeed_config.config["zero_optimization"]["stage"] < 3:
            return self.model
        from trl.models.utils import prepare_deepspeed

        return prepare_deepspeed(self.model, self.accelerator)

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        preference, likelihood, tokens, margins, right = self._parts(model, inputs)
        pairs = len(inputs["true_pair"])
        weights = dict(zip(self.loss_types, self.loss_weights, strict=True))
        loss = weights["sigmoid"] * preference / pairs + weights.get("sft", 0.0) * likelihood / tokens
        true = inputs["true_pair"].sum()
        sums = torch.stack([margins, right, true]).detach().double()
        if self.accelerator.num_processes > 1:
            sums = self.accelerator.reduce(sums)
        if sums[2]:
            self._metrics["train"]["rewards/margins"].append(float(sums[0] / sums[2]))
            self._metrics["train"]["rewards/accuracies"].append(float(sums[1] / sums[2]))
        return loss

    def _parts(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        """Sums over the batch: preference loss, negative log-likelihood of the chosen answers, their tokens, reward margins of true
        pairs, and how many of these are positive."""
        logps = answer_logps(model, inputs)
        pairs = len(inputs["true_pair"])
        true = inputs["true_pair"]
        ratio = logps - torch.cat([inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]])
        margin = torch.where(true, self.beta * (ratio[:pairs] - ratio[pairs:]), 0.0)
        tokens = (inputs["side"] < pairs).sum()
        right = (margin > 0).sum().to(margin.dtype)
        return -logsigmoid(margin).sum(), -logps[:pairs].sum(), tokens, margin.sum(), right

    def score(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """(preference loss, pairs, likelihood loss, tokens, margins, right, true pairs), summed over the batch."""
        preference, likelihood, tokens, margins, right = self._parts(model, inputs)
        true = inputs["true_pair"]
        parts = [preference, torch.as_tensor(len(true)), likelihood, tokens, margins, right, true.sum()]
        return torch.stack([part.to(preference.device).double() for part in parts])

    def figures(self, sums: Sequence[float]) -> dict[str, float]:
        """What ``score``'s sums say: the loss as it is trained, reward margin and accuracy of true pairs."""
        weights = dict(zip(self.loss_types, self.loss_weights, strict=True))
        loss = weights["sigmoid"] * sums[0] / max(sums[1], 1.0) + weights.get("sft", 0.0) * sums[2] / max(sums[3], 1.0)
        true = max(sums[6], 1.0)
        return {"eval_loss": loss, "eval_reward_margin": sums[4] / true, "eval_reward_accuracy": sums[5] / true}

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """A checkpoint needs none."""


def answer_logps(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """Summed log-probabilities (2 x pairs,) of chosen and then rejected answers; 0 for the second answer of a replayed row."""
    logits = logits_at(model, inputs, inputs["predicting"])
    each = -cross_entropy(logits, inputs["answer"], reduction="none")
    return torch.zeros(2 * len(inputs["true_pair"]), device=each.device).index_add(0, inputs["side"], each)
