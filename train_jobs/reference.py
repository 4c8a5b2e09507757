"""The reference's log-probabilities of preference pairs: computed once, kept under what they depend on.

The reference is the policy as it is before its first step: the parent's adapter, or the bare base (a new adapter adds nothing). So no
second model is needed; and a second run over the same pairs, a resumed one or another trial of a search, finds the figures there.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from cluster.artifacts import Artifacts
from cluster.domain.base import digest_of
from train_jobs.packing import pack_pairs
from train_jobs.trainers import answer_logps

Pairs = Sequence[dict[str, Any]]
Logps = tuple[list[float], list[float]]
_TOKENS_AT_ONCE = 8192


def key_of(pairs: Pairs, base_digest: str, parent_digest: str | None, weights: str) -> str:
    """What the figures depend on: every token, the base, the parent's adapter and how the weights are held ("float32", "4bit", …)."""
    ids = [[pair[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")] for pair in pairs]
    return digest_of({"pairs": ids, "base": base_digest, "parent": parent_digest, "weights": weights})


def known(artifacts: Artifacts, key: str, count: int) -> Logps | None:
    """The kept figures of ``count`` pairs, chosen and rejected; None where there are none, or no whole ones."""
    data = artifacts.recall(f"reference/{key}.npy")
    if data is None:
        return None
    try:
        found = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return None
    return (found[0].tolist(), found[1].tolist()) if found.shape == (2, count) else None


def keep(artifacts: Artifacts, key: str, logps: Logps) -> None:
    """Keep figures for the next run."""
    stream = io.BytesIO()
    np.save(stream, np.array(logps, dtype=np.float32))
    artifacts.remember(f"reference/{key}.npy", stream.getvalue())


def measure(model: Any, pairs: Pairs, accelerator: Accelerator) -> Logps:
    """Runs the model over all pairs, each rank over its share; every rank gets all figures. Ranks take equally many turns, because
    sharded models compute together."""
    order = sorted(range(len(pairs)), key=lambda number: pairs[number]["length"])
    batches = _batches(order, [pairs[number]["length"] for number in order])
    rank, world = accelerator.process_index, accelerator.num_processes
    found = np.zeros((2, len(pairs)), dtype=np.float64)
    model.eval()
    for turn in range(0, len(batches), world):
        mine = batches[min(turn + rank, len(batches) - 1)]
        packed = {name: value.to(accelerator.device) for name, value in pack_pairs([pairs[one] for one in mine]).items()}
        with torch.no_grad():
            sums = answer_logps(model, packed).view(2, -1).double().cpu().numpy()
        if turn + rank < len(batches):
            found[:, mine] = sums
    model.train()
    if world > 1:
        found = accelerator.reduce(torch.from_numpy(found).float().to(accelerator.device)).cpu().numpy()
    return found[0].tolist(), found[1].tolist()


def _batches(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Neighbours in length, about 8,192 tokens at a time."""
    batches: list[list[int]] = [[]]
    held = 0
    for number, length in zip(order, lengths, strict=True):
        if batches[-1] and held + 2 * length > _TOKENS_AT_ONCE:
            batches.append([])
            held = 0
        batches[-1].append(number)
        held += 2 * length
    return batches
