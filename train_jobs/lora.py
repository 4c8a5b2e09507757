"""The adapter's shape, checked against the base model before any worker starts.

Reads the base's ``config.json`` and the headers of its safetensors files, so a check costs milliseconds and no torch. A hub id that is
not on this machine cannot be checked here; PEFT's own error comes from the worker then.
"""

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.domain.recipes import LoraRecipe
from cluster.errors import RecipeError, near
from cluster.model_roles import ModelRole
from cluster.train_plan import model_config

if TYPE_CHECKING:
    from peft import LoraConfig

_PICTURES = r".*(?:vision_tower|vision_model|multi_modal_projector)\..*"
_MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def linear_modules(location: Path) -> set[str]:
    """Last names of the base's modules with a two-dimensional weight (``q_proj``…), embeddings and head left out."""
    found: set[str] = set()
    for file in sorted(location.glob("*.safetensors")):
        with file.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header: dict[str, Any] = json.loads(stream.read(size))
        for name, entry in header.items():
            parts = name.split(".")
            if parts[-1] == "weight" and len(parts) > 1 and len(entry["shape"]) == 2:
                found.add(parts[-2])
    return found - {"embed_tokens", "lm_head", "wte", "wpe"}


def _layers(config: dict[str, Any]) -> int:
    return int((config.get("text_config") or config).get("num_hidden_layers") or 0)


def check(lora: LoraRecipe, location: str, base_name: str, max_rank: int) -> None:
    """Raises RecipeError in one sentence when the adapter cannot grow on this base or the engine could not serve it."""
    if lora.rank > max_rank:
        raise RecipeError(
            f"lora.rank {lora.rank} is more than the engine serves (engine.max_lora_rank {max_rank} in configs/treadle.yaml); lower "
            "the one or raise the other."
        )
    path = Path(location)
    if not (path / "config.json").is_file():
        return
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    hidden = int(config.get("hidden_size") or 0)
    if hidden and lora.rank > hidden:
        raise RecipeError(
            f"lora.rank {lora.rank} is impossible on base '{base_name}' (hidden size {hidden}); use at most {hidden}."
        )
    count = _layers(config)
    if lora.layers and count and max(lora.layers) >= count:
        raise RecipeError(
            f"Base '{base_name}' has no layer {max(lora.layers)} (lora.layers); its {count} layers are 0 to {count - 1}."
        )
    known = linear_modules(path)
    if lora.target_modules == "all-linear" or not known:
        return
    for module in lora.target_modules:
        if module.split(".")[-1] not in known:
            close = near(module, known, most=1)
            hint = f"did you mean '{close[0]}'?" if close else f"it has {', '.join(sorted(known))}."
            raise RecipeError(f"Base '{base_name}' has no module '{module}' (lora.target_modules); {hint}")


def peft_config(lora: LoraRecipe, base_path: str) -> "LoraConfig":
    """PEFT's form of the recipe. ``base_path`` is written into the adapter as the base it belongs to.

    A picture encoder beside the text model gets no adapter: rows of text would never train it, and the engine serves none there.
    """
    from peft import LoraConfig, TaskType

    modules: str | list[str] = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    location = ModelRole(path=base_path, name=base_path).location
    if lora.layers is not None and isinstance(modules, str):
        modules = sorted(linear_modules(Path(location)) or _MATRICES)  # PEFT takes layers only with modules by name
    config = model_config(location) or {}
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=modules,
        layers_to_transform=list(lora.layers) if lora.layers is not None else None,
        exclude_modules=_PICTURES if config.get("vision_config") else None,
        task_type=TaskType.CAUSAL_LM,
        base_model_name_or_path=base_path,
    )
