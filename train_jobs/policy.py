"""The model that is trained: the base as the recipe wants it held, with its adapter, new or the parent's."""

import importlib.util
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from cluster.artifacts import Artifacts
from cluster.domain.recipes import TrainRecipe
from train_jobs import lora, packing

if TYPE_CHECKING:
    from train_jobs.training import WorkerTask


def load(task: "WorkerTask", packed: bool) -> PeftModel:
    """Base and adapter. With ``packed`` its attention takes packed rows."""
    recipe = task.recipe
    dtype = torch.bfloat16 if recipe.bf16 else torch.float32
    quantised = recipe.quantise == "4bit"
    base = AutoModelForCausalLM.from_pretrained(
        task.base,
        dtype=dtype,
        attn_implementation=packing.NAME if packed else "sdpa",
        quantization_config=_four_bits(dtype) if quantised else None,
    )
    base.config.use_cache = False
    if quantised:
        base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=recipe.gradient_checkpointing)
        _without_broken_kernel(base)
    # ZeRO-3 and FSDP gather base and adapter in one buffer, so they must have one type.
    upcast = recipe.zero != 3 and recipe.sharding != "fsdp"
    if task.parent_uri is None:
        return get_peft_model(base, lora.peft_config(recipe.lora, task.base_path), autocast_adapter_dtype=upcast)
    adapter = Artifacts(task.artifacts_url, task.cache).fetch(task.parent_uri, task.parent_digest)
    return PeftModel.from_pretrained(base, str(adapter), is_trainable=True, autocast_adapter_dtype=upcast)


def _four_bits(dtype: torch.dtype) -> BitsAndBytesConfig:
    """NF4 with quantised constants (Dettmers et al., 2023, arXiv:2305.14314)."""
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def _without_broken_kernel(model: Any) -> None:
    """On a CPU with AVX512-BF16 a forward pass in evaluation packs the weights for a kernel that the next training step cannot read."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def sharding(recipe: TrainRecipe) -> dict[str, Any]:
    """Training arguments for PyTorch's own sharding; none for DeepSpeed's."""
    if recipe.sharding != "fsdp":
        return {}
    how = {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "state_dict_type": "FULL_STATE_DICT"}
    return {"fsdp": True, "fsdp_config": how | ({"cpu_offload": True} if recipe.offload else {})}


def kernels(recipe: TrainRecipe) -> dict[str, Any]:
    """Training arguments for Liger's kernels (Hsu et al., 2024, arXiv:2410.10989): on GPUs where they are installed. Its fused loss is
    left out, because the output layer sees the answers' places alone."""
    if not (recipe.liger and recipe.gpus_per_worker and importlib.util.find_spec("liger_kernel")):
        return {}
    return {"use_liger_kernel": True, "liger_kernel_config": {"fused_linear_cross_entropy": False}}
