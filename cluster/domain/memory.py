"""How much memory a training needs on each worker, before any worker is asked for.

Weights, gradients and optimiser states are counted exactly (their sharding: Rajbhandari et al., 2020, arXiv:1910.02054). Activations are
counted as in Korthikanti et al., 2022, arXiv:2205.05198, section 4, adapted to what runs here: RMS norms that keep their input in 32
bits, a gated feed-forward part, grouped queries, attention that recomputes its scores (SDPA: their term in s² falls away but for the
mask), and a frozen base, whose matrices keep no input of their own; only adapters do. What libraries take for themselves is assumed
(constants below).

The count is for the longest rows that the recipe allows: ``micro_batch_size`` rows of ``max_length`` tokens. With packing that is what
every step holds; without, shorter rows need less. It promises nothing about fragmentation beyond its margin, nor about rows with pictures.
``tests/benchmarks/memory.py`` compares it with measured peaks.
"""

from typing import Literal

from cluster.domain.base import Frozen
from cluster.domain.model_shapes import ModelShape, Module
from cluster.domain.recipes import DpoRecipe, TrainRecipe

GIB = 1 << 30
MARGIN = 0.08  # of everything counted: fragmentation, and buffers of the libraries
_PROCESS = int(0.9 * GIB)  # Python with torch, transformers, TRL and Ray; measured on a CPU
_HEAP = 0.27  # of what passes allocate: what the C library's allocator does not give back between them; measured on a CPU
_CONTEXT = int(0.75 * GIB)  # CUDA's context with cuBLAS; assumed, between 0.5 and 1 on today's data centre GPUs
_NCCL = int(0.5 * GIB)  # NCCL's buffers when there is more than one worker; assumed
_ZERO_BUCKET = 50_000_000  # elements: train_jobs.deepspeed
_ZERO3_LIVE = 1_000_000_000  # elements: DeepSpeed's stage3_max_live_parameters
_FOUR_BIT = (
    0.5 + 1 / 64 + 4 / 64 / 256
)  # bytes per element: NF4 with quantised constants (Dettmers et al., 2023, arXiv:2305.14314)

Where = Literal["device", "host"]


class MemoryItem(Frozen):
    """``where``: the device (a GPU, or the machine's memory without one) or, beside a GPU, its host."""

    name: str
    bytes: int
    where: Where = "device"
    how: str = ""


class MemoryPlan(Frozen):
    """What one worker needs. ``tokens_per_step``: over all workers, at most."""

    items: tuple[MemoryItem, ...]
    tokens_per_step: int
    parameters: int
    adapter_parameters: int

    def total(self, where: Where = "device", margin: bool = True) -> int:
        """Bytes in all; with ``margin`` what should be there, without what cannot be done with less."""
        counted = sum(item.bytes for item in self.items if item.where == where)
        return round(counted * (1 + MARGIN)) if margin else counted

    @property
    def used(self) -> tuple[MemoryItem, ...]:
        """The items that are not nothing."""
        return tuple(item for item in self.items if item.bytes)


def plan(shape: ModelShape, recipe: TrainRecipe) -> MemoryPlan:
    """The memory of one worker of ``recipe`` on a base of this shape."""
    rank, modules = recipe.lora.rank, recipe.lora.target_modules
    adapted = None if isinstance(modules, str) else modules
    adapter = shape.adapter(rank, adapted, len(recipe.lora.layers) if recipe.lora.layers else None)
    items = (*_weights(shape, recipe), *_adapter(recipe, adapter), *_passes(shape, recipe), *_libraries(shape, recipe))
    tokens = recipe.batch_size * recipe.max_length * (2 if isinstance(recipe, DpoRecipe) else 1)
    return MemoryPlan(items=items, tokens_per_step=tokens, parameters=shape.parameters, adapter_parameters=adapter)


def rows_per_pass(recipe: TrainRecipe) -> int:
    """Sequences of one worker's forward pass: a pair is two."""
    rows = recipe.micro_batch_size or recipe.batch_size // recipe.workers
    return rows * (2 if isinstance(recipe, DpoRecipe) else 1)


def shards_base(recipe: TrainRecipe) -> bool:
    """Whether each worker holds only its part of the base: ZeRO-3, or FSDP."""
    return recipe.zero == 3 or recipe.sharding == "fsdp"


def _element(recipe: TrainRecipe) -> int:
    return 2 if recipe.bf16 else 4


def _four_bit(recipe: TrainRecipe) -> bool:
    return recipe.quantise == "4bit"


def _base_bytes(shape: ModelShape, recipe: TrainRecipe) -> int:
    if not _four_bit(recipe):
        return shape.parameters * _element(recipe)
    return round(shape.linear * _FOUR_BIT) + (shape.parameters - shape.linear) * _element(recipe)


def _weights(shape: ModelShape, recipe: TrainRecipe) -> tuple[MemoryItem, ...]:
    whole = _base_bytes(shape, recipe)
    kind = "4 bit, embeddings and norms whole" if _four_bit(recipe) else f"{8 * _element(recipe)} bit"
    if not shards_base(recipe):
        return (MemoryItem(name="base weights", bytes=whole, how=f"{shape.parameters / 1e9:.2f} B parameters in {kind}"),)
    part = whole // recipe.workers
    to_host = recipe.offload and recipe.gpus_per_worker > 0
    # A layer is gathered when it is needed, and the next ones ahead of it; the embedding is one piece.
    layer = shape.linear // shape.layers
    live = _ZERO3_LIVE if recipe.zero == 3 else 2 * layer
    gathered = min(shape.parameters, max(live, shape.embedding) + _ZERO_BUCKET) * _element(recipe)
    return (
        MemoryItem(
            name="base weights", bytes=part, where="host" if to_host else "device", how=f"one of {recipe.workers} parts in {kind}"
        ),
        MemoryItem(
            name="gathered weights", bytes=gathered if recipe.workers > 1 or to_host else 0, how="whole while they are needed"
        ),
    )


def _adapter(recipe: TrainRecipe, count: int) -> tuple[MemoryItem, ...]:
    """Weights and gradients in their type, AdamW's two moments in 32 bits; DeepSpeed in bf16 keeps a 32-bit copy to update."""
    zero, parts = recipe.zero, recipe.workers
    narrow = 2 if recipe.bf16 and zero else 4
    states = count * (8 + (4 if zero else 0)) // (parts if zero else 1)
    gradients = count * narrow // (parts if zero >= 2 else 1)
    to_host = bool(zero and recipe.offload and recipe.gpus_per_worker > 0)
    where: Where = "host" if to_host else "device"
    buckets = 2 * min(count, _ZERO_BUCKET) * narrow if zero else (count * narrow if parts > 1 else 0)
    reference = count * 4 if isinstance(recipe, DpoRecipe) else 0
    return (
        MemoryItem(
            name="adapter weights", bytes=count * narrow // (parts if zero == 3 else 1), how=f"{count / 1e6:.1f} M parameters"
        ),
        MemoryItem(name="adapter gradients", bytes=gradients),
        MemoryItem(name="optimiser states", bytes=states, where=where, how="AdamW" + (f", one of {parts} parts" if zero else "")),
        MemoryItem(name="reduction buckets", bytes=buckets),
        MemoryItem(name="reference adapter", bytes=reference, how="dropped when its log-probabilities are known"),
    )


def kept_per_token(shape: ModelShape, recipe: TrainRecipe) -> float:
    """Bytes that one adapted layer keeps per token for its backward pass."""
    size = _element(recipe)
    names = recipe.lora.target_modules
    adapted = set(shape.adapted(None if isinstance(names, str) else names))
    norms = 4 * (shape.norms * shape.hidden + (shape.query + shape.key_value if shape.head_norms else 0))
    attention = size * (2 * shape.query + 2 * shape.query)  # queries, output, and keys and values repeated for every head
    gated = size * 3 * shape.feed_forward  # the gate, what the activation makes of it, and what it is multiplied with
    # An adapter in 32 bits reads a copy of its own of a 16-bit input; in 32 bits q, k, v (and gate, up) share one.
    shared: tuple[tuple[Module, ...], ...] = (
        ("q_proj", "k_proj", "v_proj"),
        ("o_proj",),
        ("gate_proj", "up_proj"),
        ("down_proj",),
    )
    kept = 0
    for group in shared:
        readers = [name for name in group if name in adapted]
        wide = shape.matrices[group[0]][0]
        copies = min(1, len(readers)) if size == 4 and not recipe.lora.dropout else len(readers)
        kept += wide * (copies * size + (len(readers) if recipe.lora.dropout else 0))  # dropout keeps a mask of one byte
    return norms + attention + gated + kept + size * recipe.lora.rank * len(adapted)


def _passes(shape: ModelShape, recipe: TrainRecipe) -> tuple[MemoryItem, ...]:
    rows, size = rows_per_pass(recipe), _element(recipe)
    tokens = rows * recipe.max_length
    layer = tokens * kept_per_token(shape, recipe)
    first = min(recipe.lora.layers) if recipe.lora.layers else 0
    mask = rows * recipe.max_length**2 * size
    if recipe.gradient_checkpointing:
        kept, how = shape.layers * tokens * shape.hidden * size + layer, "inputs of the layers, and one layer computed again"
    else:
        kept, how = (shape.layers - first) * layer, f"{tokens:,} tokens through {shape.layers - first} layers"
    working = tokens * (3 * shape.feed_forward + 2 * shape.hidden) * size  # gradients of the layer in hand
    if _four_bit(recipe):
        working += shape.hidden * shape.feed_forward * size  # a matrix in hand is unpacked
    head = _head(shape, recipe, tokens)
    heap = 0 if recipe.gpus_per_worker > 0 else round(_HEAP * (kept + working + mask + head))
    return (
        MemoryItem(name="activations", bytes=round(kept), how=how),
        MemoryItem(name="gradients of activations", bytes=working, how="one layer's"),
        MemoryItem(name="attention mask", bytes=mask),
        MemoryItem(name="logits", bytes=head, how=f"vocabulary of {shape.vocab:,}"),
        MemoryItem(name="allocator", bytes=heap, how="freed and not given back"),
    )


def _head(shape: ModelShape, recipe: TrainRecipe, tokens: int) -> int:
    """Bytes around the output layer: the logits of every answer's token (answers as long as rows, at worst), in 32 bits too where they
    are narrower, their logarithms, and the gradient of the logits."""
    size = _element(recipe)
    return tokens * shape.hidden * (4 + 2 * size) + tokens * shape.vocab * (size + (4 if size < 4 else 0) + 8)


def _libraries(shape: ModelShape, recipe: TrainRecipe) -> tuple[MemoryItem, ...]:
    if recipe.gpus_per_worker == 0:
        return (MemoryItem(name="process", bytes=_PROCESS, how="Python, torch and the libraries"),)
    context = _CONTEXT + (_NCCL if recipe.workers > 1 else 0)
    loading = 0 if shards_base(recipe) or _four_bit(recipe) else _base_bytes(shape, recipe)
    return (
        MemoryItem(name="CUDA context", bytes=context, how="with NCCL's buffers" if recipe.workers > 1 else ""),
        MemoryItem(name="process", bytes=2 * _PROCESS, where="host", how="Python, torch with CUDA"),
        MemoryItem(name="base while it is loaded", bytes=loading, where="host"),
    )
