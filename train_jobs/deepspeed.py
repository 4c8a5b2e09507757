"""DeepSpeed's configuration from a recipe, with every number resolved.

``"auto"`` batch sizes would be filled in before the process group exists, so with more than one worker they come out wrong
("train_batch_size is not equal to micro_batch * gas * world_size"). Without an ``optimizer`` entry DeepSpeed wraps PyTorch's AdamW, which
needs no compiled op.
"""

from typing import Any

from cluster.domain.recipes import TrainRecipe

_BUCKET = 50_000_000  # elements per reduction


def micro_batch(recipe: TrainRecipe) -> int:
    """Rows per worker and forward pass."""
    return recipe.micro_batch_size or recipe.batch_size // recipe.workers


def accumulation(recipe: TrainRecipe) -> int:
    """Forward passes per worker and optimiser step."""
    return recipe.batch_size // (recipe.workers * micro_batch(recipe))


def zero_config(recipe: TrainRecipe) -> dict[str, Any] | None:
    """The configuration for ``recipe.zero``; None for 0, where DeepSpeed is not used at all."""
    if not recipe.zero:
        return None
    zero: dict[str, Any] = {
        "stage": recipe.zero,
        "overlap_comm": recipe.gpus_per_worker > 0,
        "contiguous_gradients": True,
        "reduce_bucket_size": _BUCKET,
        "allgather_bucket_size": _BUCKET,
    }
    if recipe.zero == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    if recipe.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": recipe.gpus_per_worker > 0}
        if recipe.zero == 3:
            zero["offload_param"] = {"device": "cpu", "pin_memory": recipe.gpus_per_worker > 0}
    return {
        "zero_optimization": zero,
        "train_batch_size": recipe.batch_size,
        "train_micro_batch_size_per_gpu": micro_batch(recipe),
        "gradient_accumulation_steps": accumulation(recipe),
        "gradient_clipping": recipe.max_grad_norm,
        "bf16": {"enabled": recipe.bf16},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        # Ranks write their own part on their own disk; Ray gathers the parts in the run's storage.
        "checkpoint": {"use_node_local_storage": True},
    }


def join(on_cpu: bool) -> None:
    """Give DeepSpeed the process group that Ray Train has opened. ZeRO-3 asks for the world's size while the model is being loaded.

    On a CPU its shared-memory reduction is left out: it compiles for half a minute and gains nothing at an adapter's size.
    """
    import deepspeed
    from deepspeed import ops

    if on_cpu:
        ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo" if on_cpu else "nccl", auto_mpi_discovery=False, verbose=False)
