"""Memory plans against what is known: published sizes, transformers' own count, the tensors that autograd really keeps."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cluster.cli.app import app
from cluster.domain import fitting, memory
from cluster.domain.known_models import KNOWN, published
from cluster.domain.memory import GIB
from cluster.domain.model_shapes import shape_of
from cluster.domain.recipes import DpoRecipe, LoraRecipe, SftRecipe
from cluster.errors import InvalidInput, NotFound, RecipeError
from cluster.settings import ROOT, Settings, load_train_recipe
from cluster.train_plan import planned, refuse_what_cannot_fit

BILLIONS = {
    "Qwen/Qwen3-0.6B": 0.596, "Qwen/Qwen3-1.7B": 1.72, "Qwen/Qwen3-4B": 4.02, "Qwen/Qwen3-8B": 8.19, "Qwen/Qwen3-14B": 14.8,
    "Qwen/Qwen3-32B": 32.8, "meta-llama/Llama-3.2-1B-Instruct": 1.24, "meta-llama/Llama-3.2-3B": 3.21, "meta-llama/Llama-3.1-8B": 8.03,
    "meta-llama/Llama-3.3-70B-Instruct": 70.6, "google/gemma-3-1b-it": 1.0, "google/gemma-3-4b-it": 4.3, "google/gemma-3-12b-pt": 12.2,
    "google/gemma-3-27b-it": 27.4, "mistralai/Mistral-7B-Instruct-v0.3": 7.25, "mistralai/Mistral-Nemo-Instruct-2407": 12.2,
    "mistralai/Mistral-Small-24B-Instruct-2501": 23.6,
}  # fmt: skip
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
         "head_dim": 16, "vocab_size": 100, "tie_word_embeddings": False}  # fmt: skip
EYES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


@pytest.mark.parametrize(("model", "billions"), BILLIONS.items())
def test_a_published_models_parameters(model: str, billions: float) -> None:
    config = published(model)
    assert config is not None
    assert shape_of(config, model).parameters == pytest.approx(billions * 1e9, rel=0.01)


def test_only_the_named_size_is_found() -> None:
    assert published("google/gemma-3-12b-it") is KNOWN["google/gemma-3-12b"]
    assert published("google/gemma-3-1b-it") is KNOWN["google/gemma-3-1b"]
    assert published("Qwen/Qwen3-80B") is None


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama", "mistral", "gemma3_text", "gemma3"])
def test_transformers_counts_the_same_parameters(family: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values: dict[str, Any] = {**SMALL, **({"attention_bias": True, "mlp_bias": True} if family == "llama" else {})}
    if family == "qwen2":
        values.pop("head_dim")
    if family == "gemma3":
        values = {"text_config": {**values, "tie_word_embeddings": True}, "vision_config": EYES}
    config = AutoConfig.for_model(family, **values)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = shape_of(json.loads(config.to_json_string(use_diff=False)), family)
    assert shape.parameters == sum(one.numel() for one in model.parameters())


@pytest.mark.parametrize("changes", [{}, {"lora": LoraRecipe(rank=8, target_modules=("q_proj", "v_proj"))}, {"bf16": True}])
def test_autograd_keeps_what_is_planned(changes: dict[str, Any]) -> None:
    """Bytes saved for the backward pass of a padded batch, counted by hooks, against the formula."""
    import torch
    from peft import get_peft_model
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from train_jobs.lora import peft_config

    recipe = SftRecipe(**{"agent": "a", "rows": "r", "batch_size": 2, "max_length": 128, "lora": LoraRecipe(rank=8), **changes})
    sizes = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = Qwen3Config(vocab_size=64, num_key_value_heads=2, head_dim=64, **sizes)
    model = get_peft_model(Qwen3ForCausalLM(config), peft_config(recipe.lora, "tiny"))
    if recipe.bf16:
        for name, one in model.named_parameters():
            one.data = one.data if "lora_" in name else one.data.bfloat16()
    own = {one.untyped_storage().data_ptr() for one in model.parameters()}
    held: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.randint(0, 64, (2, 128))
    mask = torch.ones_like(ids)
    mask[0, 100:] = 0
    mixed = torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.bf16)  # as the trainer does it
    with mixed, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.base_model.model.model(input_ids=ids, attention_mask=mask)
    kept = sum(one.untyped_storage().nbytes() for place, one in held.items() if place not in own)
    formula = memory.kept_per_token(shape_of(config.to_dict(), "tiny"), recipe)
    assert kept == pytest.approx(3 * 256 * formula, rel=0.12)


def sizes(**changes: Any) -> dict[str, int]:
    usual = {"agent": "a", "rows": "r", "batch_size": 8, "bf16": True, "gpus_per_worker": 1, "max_length": 2048}
    kind = DpoRecipe if "beta" in changes else SftRecipe
    found = memory.plan(shape_of(KNOWN["Qwen/Qwen3-8B"], "q"), kind(**{**usual, **changes}))
    return {f"{item.name} {item.where}": item.bytes for item in found.items} | {"all": found.total()}


def test_what_each_choice_changes() -> None:
    plain, part = sizes(), sizes(zero=3, workers=4)
    assert plain["base weights device"] == 8_190_735_360 * 2
    assert part["base weights device"] == plain["base weights device"] // 4
    assert plain["adapter weights device"] == 87_293_952 * 4
    assert plain["optimiser states device"] == 87_293_952 * 8
    assert sizes(zero=2, workers=4)["optimiser states device"] == 87_293_952 * 12 // 4  # with DeepSpeed's copy in 32 bits
    assert sizes(gradient_checkpointing=True)["activations device"] < plain["activations device"] / 8
    assert sizes(micro_batch_size=1)["activations device"] == plain["activations device"] // 8
    assert sizes(micro_batch_size=2, beta=0.1)["activations device"] == sizes(micro_batch_size=4)["activations device"]
    assert sizes(quantise="4bit")["base weights device"] < plain["base weights device"] * 0.4
    assert sizes(sharding="fsdp", workers=4)["base weights device"] == part["base weights device"]
    off = sizes(zero=3, offload=True)
    assert off["base weights host"] == plain["base weights device"]
    assert off["optimiser states host"] > 0
    upper = sizes(lora=LoraRecipe(rank=32, layers=tuple(range(18, 36))))
    assert upper["activations device"] == plain["activations device"] // 2  # nothing is kept below the first adapted layer


def test_a_small_gpu_gets_the_change_that_is_enough() -> None:
    shape = shape_of(KNOWN["Qwen/Qwen3-8B"], "q")
    usual = {"agent": "a", "rows": "r", "bf16": True, "gpus_per_worker": 1, "max_length": 2048}
    recipe = SftRecipe(**usual, batch_size=8)
    assert re.match(r"it fits with gradient_checkpointing: true \(\d+\.\d GiB\)", fitting.way_out(shape, recipe, 80 * GIB))
    both = fitting.way_out(shape, recipe, 22 * GIB)
    assert both.startswith(
        "no single change is enough, but gradient_checkpointing: true and micro_batch_size: 1 and quantise: 4bit are"
    )
    assert fitting.way_out(shape, recipe, GIB).startswith("even gradient_checkpointing: true and")
    large = SftRecipe(**usual, batch_size=8, micro_batch_size=1, gradient_checkpointing=True)
    llama = shape_of(KNOWN["meta-llama/Llama-3.1-70B"], "l")
    assert "workers: " in fitting.way_out(llama, large, 40 * GIB) or "offload" in fitting.way_out(llama, large, 40 * GIB)
    assert fitting.verdict(memory.plan(llama, large), 80 * GIB) == "does not fit"


@pytest.mark.parametrize("file", sorted((ROOT / "configs" / "train").glob("*_*b*.yaml")), ids=lambda file: file.stem)
def test_a_shipped_recipe_fits_what_it_says_it_needs(file: Path, settings: Settings) -> None:
    count, size = re.search(r"Needs: (\d+) (?:GPUs?|machine) x (\d+) GiB", file.read_text()).groups()
    recipe = load_train_recipe(file)
    found = planned(settings, recipe, float(size))
    assert int(count) == recipe.workers
    assert found.memory.total() <= int(size) * GIB


def test_a_training_that_cannot_fit_is_refused(settings: Settings, tmp_path: Path) -> None:
    huge = {**KNOWN["meta-llama/Llama-3.1-70B"], "num_hidden_layers": 8000}
    (tmp_path / "config.json").write_text(json.dumps(huge))
    with pytest.raises(
        RecipeError, match=r"by this recipe takes .* GiB per worker, and the machine has .* GiB: it does not fit; even "
    ):
        refuse_what_cannot_fit(settings, SftRecipe(agent="a", rows="r", base=str(tmp_path)))
    refuse_what_cannot_fit(settings, SftRecipe(agent="a", rows="r", base="nobody/knows-this"))
    refuse_what_cannot_fit(settings, SftRecipe(agent="a", rows="r"))


def test_models_that_are_not_known(settings: Settings) -> None:
    with pytest.raises(NotFound, match=r"shape of base 'Qwen/Qwen3-7B' is not known .*; did you mean 'Qwen/Qwen3-"):
        planned(settings, SftRecipe(agent="a", rows="r", base="Qwen/Qwen3-7B"))
    with pytest.raises(
        InvalidInput, match=r"Model 'm' is of type 'qwen3_moe', whose memory cannot be estimated .nearest known: qwen3"
    ):
        shape_of({"model_type": "qwen3_moe"}, "m")
    with pytest.raises(InvalidInput, match=r"config.json of model 'm' cannot be used: KeyError"):
        shape_of({"model_type": "llama"}, "m")


def test_the_command(home: Path) -> None:
    file = str(ROOT / "configs" / "train" / "sft_llama3_70b.yaml")
    done = CliRunner().invoke(app, ["train", "plan", "--recipe", file, "--gpu-memory", "80", "--json"])
    value = json.loads(done.stdout)
    assert (done.exit_code, value["verdict"]) == (0, "fits")
    assert value["memory"]["tokens_per_step"] == 64 * 4096
    refused = CliRunner().invoke(app, ["train", "plan", "--recipe", file, "--gpu-memory", "24", "--json"])
    assert isinstance(refused.exception, RecipeError)
    assert json.loads(refused.stdout)["verdict"] == "does not fit"
