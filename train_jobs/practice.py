"""From practice rows to batches: rendering, masks, weights, and an endless stream made beside the trainer.

The rows come from a source that the recipe names ("module:function") and that is looked up when the job starts.
`data_jobs` and `train_jobs` never import each other, and pretraining needs no knowledge of what its rows are about:
any function `(seed, mixture, split) -> Iterator[{"messages", "skill"}]` will do. Work is launched by name.
"""

import importlib
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerFast

from train_jobs.pretrain_recipe import PretrainRecipe
from train_jobs.starter_tokenizer import END, PAD, ROLES

POOL_ROWS = 512  # rows sorted by length together; the unit of resuming
LONGEST = 700  # tokens; longer rows are skipped, they would cost more than they teach
IGNORED = -100


class Batch(NamedTuple):
    """Token ids and next-token labels (rows, length), a weight per label, and the number of the pool they are from."""

    ids: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    pool: int


def source(name: str) -> Callable[..., Iterator[Any]]:
    """The function that "module:function" names."""
    module, _, function = name.partition(":")
    found: Callable[..., Iterator[Any]] = getattr(importlib.import_module(module), function)
    return found


def encode(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
    """Token ids of a conversation and, for each, the number of its answer (from 1; 0 where nothing is learnt).

    Equal to the chat template's ids (a test asserts it) at a tenth of its time.
    """
    end = tokenizer.convert_tokens_to_ids(END)
    ids: list[int] = []
    answers: list[int] = []
    count = 0
    for message in messages:
        content = tokenizer._tokenizer.encode(message["content"], add_special_tokens=False).ids
        is_answer = message["role"] == "assistant"
        count += is_answer
        ids += [tokenizer.convert_tokens_to_ids(ROLES[message["role"]]), *content, end]
        answers += [0, *([count if is_answer else 0] * (len(content) + 1))]
    return ids, answers


def collate(encoded: list[tuple[list[int], list[int]]], pad: int, pool: int) -> Batch:
    """Right-padded tensors. A label weighs 1/sqrt(its answer's length): long copies must not drown short values."""
    length = -(-max(len(ids) for ids, _ in encoded) // 8) * 8
    ids = torch.full((len(encoded), length), pad)
    labels = torch.full((len(encoded), length), IGNORED)
    weights = torch.zeros(len(encoded), length)
    for row, (tokens, answers) in enumerate(encoded):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        sizes = {answer: answers.count(answer) for answer in set(answers)}
        for at, answer in enumerate(answers):
            if answer:
                labels[row, at - 1] = tokens[at]
                weights[row, at - 1] = sizes[answer] ** -0.5
    return Batch(ids, labels, weights, pool)


class PracticeStream(torch.utils.data.IterableDataset[Batch]):
    """Endless batches of fresh rows, made in a worker process so that the trainer never waits."""

    def __init__(self, recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerFast, first_pool: int) -> None:
        self.recipe, self.tokenizer, self.first_pool = recipe, tokenizer, first_pool

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        make_rows, pool = source(self.recipe.corpus), self.first_pool
        while True:
            stage = next((s for s in self.recipe.stages if pool * POOL_ROWS < s.rows), self.recipe.stages[-1])
            practice = make_rows(self.recipe.seed * 1_000_003 + pool, stage.mixture, "train")
            encoded = [encode(self.tokenizer, next(practice)["messages"]) for _ in range(POOL_ROWS)]
            encoded = sorted((row for row in encoded if len(row[0]) <= LONGEST), key=lambda row: len(row[0]))
            batches: list[list[tuple[list[int], list[int]]]] = [[]]
            for row in encoded:
                if (len(batches[-1]) + 1) * len(row[0]) > self.recipe.batch_tokens:
                    batches.append([])
                batches[-1].append(row)
            random.Random(pool).shuffle(batches)
            for batch in batches:
                yield collate(batch, self.tokenizer.convert_tokens_to_ids(PAD), pool)
            pool += 1
