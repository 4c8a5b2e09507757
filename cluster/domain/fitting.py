"""Whether a training fits into a worker's memory, and the one change to its recipe that makes it fit."""

from typing import Any, Iterator, Literal

from pydantic import ValidationError

from cluster.domain.memory import GIB, MemoryPlan, plan, shards_base
from cluster.domain.model_shapes import ModelShape
from cluster.domain.recipes import TrainRecipe

Verdict = Literal["fits", "tight", "does not fit"]
Change = tuple[str, dict[str, Any]]
_MOST_WORKERS = 64


def verdict(planned: MemoryPlan, available: int) -> Verdict:
    """``tight``: it fits only without the margin for fragmentation."""
    if planned.total() <= available:
        return "fits"
    return "tight" if planned.total(margin=False) <= available else "does not fit"


def gib(size: float) -> str:
    """Bytes as a person reads them."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / (1 << 20):.0f} MiB"


def way_out(shape: ModelShape, recipe: TrainRecipe, available: int) -> str:
    """What to change so that the recipe fits into ``available`` bytes per worker: one change where one is enough, else several that
    together are, in the order in which they cost least speed. A clause for the end of a sentence."""
    changes = list(_changes(recipe))
    for words, change in changes:
        needed = _needed(shape, recipe, change)
        if needed is not None and needed <= available:
            return f"it fits with {words} ({gib(needed)})"
    together: dict[str, Any] = {}
    said: list[str] = []
    for words, change in changes:
        if any(key in together for key in change):
            continue
        before, needed = _needed(shape, recipe, together), _needed(shape, recipe, {**together, **change})
        if needed is None or before is None or needed >= before:
            continue
        together |= change
        said.append(words)
        if needed <= available:
            return f"no single change is enough, but {' and '.join(said)} are ({gib(needed)})"
    least = _needed(shape, recipe, together) or plan(shape, recipe).total()
    if not said:
        return "nothing in the recipe makes it smaller but max_length and lora.rank; use a smaller base or more memory"
    return f"even {' and '.join(said)} need {gib(least)}; use a smaller base, a shorter max_length or more memory"


def _needed(shape: ModelShape, recipe: TrainRecipe, change: dict[str, Any]) -> int | None:
    """Bytes of one worker after the change, margin included; None when the changed recipe is no recipe."""
    try:
        changed = type(recipe).model_validate({**recipe.model_dump(), **change})
    except ValidationError:
        return None
    return plan(shape, changed).total()


def _changes(recipe: TrainRecipe) -> Iterator[Change]:
    rows = recipe.micro_batch_size or recipe.batch_size // recipe.workers
    if not recipe.gradient_checkpointing:
        yield "gradient_checkpointing: true", {"gradient_checkpointing": True}
    if rows > 1:
        yield "micro_batch_size: 1", {"micro_batch_size": 1}
    gpus = recipe.gpus_per_worker > 0
    if gpus and not recipe.bf16:
        yield "bf16: true", {"bf16": True}
    quantised = recipe.quantise != "none"
    if not quantised and not shards_base(recipe):
        yield "quantise: 4bit", {"quantise": "4bit"}
    if not gpus or quantised:
        return  # workers without GPUs share one machine's memory; a quantised base is not sharded
    if recipe.workers > 1 and not shards_base(recipe):
        yield "zero: 3", {"zero": 3}
    if not recipe.offload:
        yield "zero: 3 and offload: true", {"zero": 3, "offload": True}
    workers = recipe.workers * 2
    while workers <= _MOST_WORKERS:
        rows_each = recipe.batch_size / workers
        if rows_each == int(rows_each) and rows_each >= 1:
            micro = {"micro_batch_size": 1} if rows_each % rows else {}
            stage = {} if shards_base(recipe) else {"zero": 3}
            words = f"workers: {workers}" + (" and zero: 3" if stage else "") + (" and micro_batch_size: 1" if micro else "")
            yield words, {"workers": workers, **stage, **micro}
        workers *= 2
