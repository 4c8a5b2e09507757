"""Dataset rows into token ids: the only way from a row to a training step.

Text comes from ``cluster.domain.prompts``, as in serving; the loss is on the answer and its end-of-turn token alone. A row that does
not fit is dropped whole and counted by reason: a truncated answer would teach the model to stop in the middle.
"""

import random
from collections import Counter
from typing import Any, NamedTuple, Sequence

from cluster.domain.datasets import DpoRow, Row, SftRow
from cluster.domain.prompts import render, training_ids
from cluster.errors import InvalidInput

IGNORED = -100
_NAMED = 20
POOL_STEPS = 16  # steps whose rows are sorted by length together: little padding, and still shuffled


class Examples(NamedTuple):
    """Tokenised rows, each with its ``length`` in tokens, how many rows were dropped for which reason, and a sentence on each of the first
    20 of them."""

    rows: list[dict[str, Any]]
    dropped: dict[str, int]
    named: tuple[str, ...] = ()

    @property
    def lengths(self) -> list[int]:
        return [row["length"] for row in self.rows]


def sft_example(tokenizer: Any, agent_prompt: str, row: SftRow) -> dict[str, Any]:
    """``input_ids`` and ``labels`` of one row; labels are -100 on the prompt."""
    messages = render(agent_prompt, row.question, row.history, row.passages)
    prompt, answer = training_ids(tokenizer, messages, row.answer)
    return {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer, "length": len(prompt) + len(answer)}


def dpo_example(tokenizer: Any, agent_prompt: str, row: DpoRow) -> dict[str, Any]:
    """``prompt_ids``, ``chosen_ids`` and ``rejected_ids`` of one pair; its length is that of the longer answer."""
    messages = render(agent_prompt, row.question, row.history, row.passages)
    prompt, chosen = training_ids(tokenizer, messages, row.chosen)
    _, rejected = training_ids(tokenizer, messages, row.rejected)
    longest = len(prompt) + max(len(chosen), len(rejected))
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected, "length": longest}


def replay_example(tokenizer: Any, agent_prompt: str, row: SftRow) -> dict[str, Any]:
    """An SFT row among pairs: both sides are the answer. Their margin is zero whatever the model does, so the preference loss has no
    gradient there, and only the SFT term learns from it."""
    said = {"question": row.question, "history": row.history, "passages": row.passages, "source": row.source}
    return dpo_example(tokenizer, agent_prompt, DpoRow(**said, chosen=row.answer, rejected=row.answer))


def tokenise(rows: Sequence[Row], tokenizer: Any, agent_prompt: str, max_length: int, pairs: bool = False) -> Examples:
    """All rows as examples; with ``pairs``, SFT rows too become pairs (see ``replay_example``). Raises InvalidInput when none is left,
    and when the chat template cannot be used."""
    kept: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    named: list[str] = []

    def drop(number: int, row: Row, reason: str, seen: str) -> None:
        dropped[reason] += 1
        if len(named) < _NAMED:
            named.append(f"Row {number} ({row.source or 'no source'}) was left out: {seen}.")

    for number, row in enumerate(rows, 1):
        try:
            if isinstance(row, SftRow):
                example = (replay_example if pairs else sft_example)(tokenizer, agent_prompt, row)
            elif isinstance(row, DpoRow):
                if row.chosen == row.rejected:
                    drop(number, row, "chosen and rejected are the same", "chosen and rejected are the same")
                    continue
                example = dpo_example(tokenizer, agent_prompt, row)
            else:
                raise InvalidInput(f"A row of kind '{row.kind}' cannot train an agent; give sft or dpo rows.")
        except ValueError as error:
            raise InvalidInput(f"The base model cannot be trained: {error}.") from None
        if example["length"] > max_length:
            drop(number, row, f"longer than {max_length} tokens", f"it has {example['length']} tokens, more than {max_length}")
        else:
            kept.append(example)
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "there were none"
        raise InvalidInput(f"No row is left to train on ({reasons}); give more rows or raise max_length.")
    return Examples(kept, dict(dropped), tuple(named))


def split(rows: Sequence[dict[str, Any]], share: float, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows to train on, and ``share`` of them held out. Equal rows are on one side: a held-out row is never one that was seen.

    Raises InvalidInput when one side would be empty.
    """
    if not share:
        return list(rows), []
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(repr([row[name] for name in sorted(row) if name.endswith("_ids")]), []).append(row)
    keys = list(groups)
    random.Random(seed).shuffle(keys)
    count = round(share * len(keys))
    if not 0 < count < len(keys):
        raise InvalidInput(
            f"{len(keys)} different rows cannot be split by eval_share {share:g}; give more rows or another share."
        )
    held = [row for key in keys[:count] for row in groups[key][:1]]
    return [row for key in keys[count:] for row in groups[key]], held


def step_order(lengths: Sequence[int], per_step: int, steps: int, seed: int, pool_steps: int = POOL_STEPS) -> list[int]:
    """Which row each place of each step takes: ``steps * per_step`` indices, the same for the same arguments.

    Rows are shuffled epoch by epoch; inside a pool of ``pool_steps`` steps they are sorted by length, cut into steps, and the steps
    shuffled. That a run can be resumed exactly rests on this order depending on nothing else.
    """
    shuffle = random.Random(seed)
    endless: list[int] = []
    while len(endless) < steps * per_step:
        epoch = list(range(len(lengths)))
        shuffle.shuffle(epoch)
        endless += epoch
    order: list[int] = []
    for start in range(0, steps * per_step, pool_steps * per_step):
        pool = endless[start : min(start + pool_steps * per_step, steps * per_step)]
        pool.sort(key=lengths.__getitem__)
        batches = [pool[at : at + per_step] for at in range(0, len(pool), per_step)]
        shuffle.shuffle(batches)
        order += [index for batch in batches for index in batch]
    return order
