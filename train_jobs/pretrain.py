"""Makes the starter model from nothing: `python -m train_jobs.pretrain --recipe configs/train/pretrain_starter.yaml`.

Matrices learn with Muon (Jordan et al. 2024, torch.optim.Muon), the embedding and norms with AdamW. The rate is
warm-up, constant, then linear to zero in the last `decay_minutes`, all by the clock, for the budget is time. What is
measured and exported is a running average of the weights. A file `work/export` asks a running job for an early export;
killing it loses at most `checkpoint_minutes`, and `--resume` goes on from there, also with an edited recipe.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from train_jobs.practice import IGNORED, LONGEST, POOL_ROWS, Batch, PracticeStream, collate, encode, source
from train_jobs.pretrain_recipe import PretrainRecipe
from train_jobs.starter_tokenizer import PAD, train_tokenizer

FIGURES_START, FIGURES_END = "<!-- figures -->", "<!-- /figures -->"


def new_model(recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    torch.manual_seed(recipe.seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=recipe.width,
            intermediate_size=recipe.feed_forward,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.key_value_heads,
            head_dim=recipe.head_size,
            max_position_embeddings=recipe.context,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def answer_logits(model: Qwen3ForCausalLM, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (labels, vocabulary) at the answers' positions only, their labels and weights.

    Padding is on the right and attention is causal, so no mask is needed.
    """
    wanted = batch.labels != IGNORED
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[wanted])
    return logits.float(), batch.labels[wanted], batch.weights[wanted]


@torch.no_grad()
def measure(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: PretrainRecipe) -> dict[str, float]:
    """Share of held-out answers that greedy decoding gives exactly, per skill (after the true earlier turns).

    Every token's argmax is right under the true prefix exactly when greedy decoding gives the answer.
    """
    figures = {}
    skills = recipe.measured or tuple(sorted({skill for stage in recipe.stages for skill in stage.mixture}))
    for skill in skills:
        practice = source(recipe.corpus)(recipe.seed, {skill: 1.0}, "heldout")
        encoded = [encode(tokenizer, next(practice)["messages"]) for _ in range(recipe.measure_rows)]
        encoded = sorted((row for row in encoded if len(row[0]) <= LONGEST), key=lambda row: len(row[0]))
        right = total = 0
        for start in range(0, len(encoded), 32):
            part = encoded[start : start + 32]
            batch = collate(part, tokenizer.convert_tokens_to_ids(PAD), 0)
            logits, labels, _ = answer_logits(model, batch)
            hit = torch.ones_like(batch.ids, dtype=torch.bool)
            hit[batch.labels != IGNORED] = logits.argmax(-1) == labels
            for row, (_, answers) in enumerate(part):
                marks = torch.tensor(answers[1:])
                for answer in range(1, max(answers) + 1):
                    right += bool(hit[row, : len(marks)][marks == answer].all())
                    total += 1
        figures[skill] = round(right / total, 4)
    return figures


def measured_how(recipe: PretrainRecipe) -> str:
    return f"{recipe.measure_rows} held-out conversations a skill"


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Writes beside `path`, then renames: a reader sees the old file or the new one, never a part."""
    part = path.with_name(path.name + ".part")
    write(part)
    os.replace(part, path)


def export(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path, figures: dict[str, Any]) -> None:
    """Puts weights (bfloat16), configuration, tokenizer and figures into `out`, file by file, each whole."""
    part = out.with_name(out.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    stored = Qwen3ForCausalLM(model.config)
    stored.load_state_dict(model.state_dict())
    stored.to(torch.bfloat16).save_pretrained(part)
    tokenizer.save_pretrained(part)
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(part.iterdir()):
        file.chmod(0o644)
        os.replace(file, out / file.name)
    part.rmdir()
    write_figures(out, figures)


def write_figures(out: Path, figures: dict[str, Any]) -> None:
    """Keeps the figures beside the model, and as a table in the model card where there is one."""
    replace_file(out / "figures.json", lambda path: path.write_text(json.dumps(figures, indent=2) + "\n"))
    card = out / "README.md"
    if card.exists():
        table = "\n".join(f"| {skill} | {value:.1%} |" for skill, value in figures["exact_match"].items())
        before, _, rest = card.read_text().partition(FIGURES_START)
        after = rest.partition(FIGURES_END)[2]
        new = f"{before}{FIGURES_START}\n| skill | exact match |\n|---|---|\n{table}\n{FIGURES_END}{after}"
        replace_file(card, lambda path: path.write_text(new))


class Trainer:
    """The model, its average, its optimisers and its clock: all that a checkpoint holds."""

    def __init__(self, recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerFast) -> None:
        self.recipe, self.tokenizer = recipe, tokenizer
        self.model = new_model(recipe, tokenizer)
        self.average = new_model(recipe, tokenizer).eval()
        matrices = [p for name, p in self.model.named_parameters() if p.ndim == 2 and "embed" not in name]
        others = [p for name, p in self.model.named_parameters() if p.ndim != 2 or "embed" in name]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=recipe.muon_rate, weight_decay=0.01, momentum=0.95),
            torch.optim.AdamW(others, lr=recipe.adam_rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.steps, self.pool, self.tokens, self.seconds = 0, 0, 0, 0.0

    def step(self, batch: Batch) -> float:
        """One update; returns the loss in nats per weighted answer token."""
        recipe = self.recipe
        left = max(0.0, recipe.minutes - self.seconds / 60)
        factor = min(1.0, (self.steps + 1) / recipe.warmup_steps, left / recipe.decay_minutes)
        for optimizer, rate in zip(self.optimizers, (recipe.muon_rate, recipe.adam_rate), strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
        logits, labels, weights = answer_logits(self.model, batch)
        loss = (cross_entropy(logits, labels, reduction="none") * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        decay = min(recipe.average_decay, (self.steps + 1) / (self.steps + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        self.steps, self.pool, self.tokens = self.steps + 1, batch.pool, self.tokens + batch.ids.numel()
        return loss.item()

    def save(self, path: Path) -> None:
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "steps": self.steps,
            "pool": self.pool,
            "tokens": self.tokens,
            "seconds": self.seconds,
        }
        replace_file(path, lambda part: torch.save(state, part))

    def load(self, path: Path) -> None:
        """Takes up a checkpoint; the pool that was in progress is not repeated."""
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.steps, self.pool = state["steps"], state["pool"] + 1
        self.tokens, self.seconds = state["tokens"], state["seconds"]


class ThreadChoice:
    """Uses one thread or all of them, whichever was faster lately: on a shared machine two threads that wait for each
    other at every operation can be slower than one. Both are tried again every `PERIOD` steps."""

    PERIOD = 60

    def __init__(self, most: int) -> None:
        self.counts = sorted({1, most})
        self.spent = dict.fromkeys(self.counts, 0.0)
        self.using = most

    def before(self, step: int) -> None:
        at = step % self.PERIOD
        if at == 0:
            self.spent = dict.fromkeys(self.counts, 0.0)
        trying = at // 3 < len(self.counts)
        self.using = self.counts[at // 3] if trying else min(self.counts, key=lambda count: self.spent[count])
        torch.set_num_threads(self.using)

    def after(self, step: int, seconds: float) -> None:
        if step % self.PERIOD // 3 < len(self.counts):
            self.spent[self.using] += seconds


def run(recipe: PretrainRecipe, resume: bool) -> dict[str, Any]:
    """Trains for the recipe's minutes, exports into `out` and returns the figures."""
    threads = ThreadChoice(recipe.threads)
    recipe.work.mkdir(parents=True, exist_ok=True)
    kept, tokens_at = recipe.work / "checkpoint.pt", recipe.work / "tokenizer"
    if resume and tokens_at.exists():
        tokenizer = PreTrainedTokenizerFast.from_pretrained(tokens_at)
    else:
        tokenizer = train_tokenizer(source(recipe.vocabulary)(recipe.seed), recipe.vocab_size)
        tokenizer.save_pretrained(tokens_at)
    trainer = Trainer(recipe, tokenizer)
    if resume and kept.exists():
        trainer.load(kept)
    print(f"{sum(p.numel() for p in trainer.model.parameters()):,} parameters, from step {trainer.steps}", flush=True)
    stream = PracticeStream(recipe, tokenizer, trainer.pool)
    loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=8)
    figures: dict[str, Any] = {}
    last, measured, saved, loss = time.monotonic(), trainer.seconds, trainer.seconds, None
    for batch in loader:
        threads.before(trainer.steps)
        started = time.monotonic()
        value = trainer.step(batch)
        threads.after(trainer.steps - 1, time.monotonic() - started)
        loss = value if loss is None else 0.97 * loss + 0.03 * value
        now = time.monotonic()
        trainer.seconds, last = trainer.seconds + now - last, now
        if trainer.steps % 25 == 0:
            print(
                f"step {trainer.steps} minute {trainer.seconds / 60:.1f} rows {batch.pool * POOL_ROWS} loss {loss:.3f} "
                f"tokens/s {trainer.tokens / trainer.seconds:.0f} threads {threads.using}",
                flush=True,
            )
        done, asked = trainer.seconds >= recipe.minutes * 60, (recipe.work / "export").exists()
        if done or asked or trainer.seconds - measured > recipe.measure_minutes * 60:
            figures = {
                "exact_match": measure(trainer.average, tokenizer, recipe),
                "measured": measured_how(recipe),
                "steps": trainer.steps,
                "tokens": trainer.tokens,
                "rows": batch.pool * POOL_ROWS,
                "minutes": round(trainer.seconds / 60, 1),
                "seed": recipe.seed,
            }
            print(json.dumps(figures["exact_match"]), flush=True)
            measured = trainer.seconds
        if done or asked:
            export(trainer.average, tokenizer, recipe.out, figures)
            (recipe.work / "export").unlink(missing_ok=True)
            print(f"exported to {recipe.out}", flush=True)
        if done or trainer.seconds - saved > recipe.checkpoint_minutes * 60:
            trainer.save(kept)
            saved = trainer.seconds
        if done:
            break
    return figures


def measure_exported(recipe: PretrainRecipe) -> dict[str, Any]:
    """Measures the model in `out` as it is stored, and renews its figures and card."""
    torch.set_num_threads(recipe.threads)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(recipe.out)
    model = Qwen3ForCausalLM.from_pretrained(recipe.out, dtype=torch.float32).eval()
    figures: dict[str, Any] = json.loads((recipe.out / "figures.json").read_text())
    figures |= {"exact_match": measure(model, tokenizer, recipe), "measured": measured_how(recipe)}
    write_figures(recipe.out, figures)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the starter model from nothing.")
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="where the model goes, instead of the recipe's `out`")
    parser.add_argument("--work", type=Path, help="where checkpoints go, instead of the recipe's `work`")
    parser.add_argument("--minutes", type=float, help="training time, instead of the recipe's")
    parser.add_argument("--resume", action="store_true", help="take up the checkpoint in `work`")
    parser.add_argument("--measure", action="store_true", help="train nothing: measure the model in `out` and renew its card")
    options = parser.parse_args()
    given = yaml.safe_load(options.recipe.read_text())
    given |= {key: value for key in ("out", "work", "minutes") if (value := getattr(options, key)) is not None}
    recipe = PretrainRecipe.model_validate(given)
    if options.measure:
        print(json.dumps(measure_exported(recipe), indent=2))
    else:
        run(recipe, options.resume)


if __name__ == "__main__":
    main()
