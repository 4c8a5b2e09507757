"""Whether the files of an adapter can run on an engine, before the engine is given them."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from cluster.domain.releases import Release
from cluster.errors import InvalidInput, one_sentence


def check_adapter(directory: Path, release: Release, base: str, max_rank: int) -> None:
    """Raises InvalidInput with one sentence when the adapter in ``directory`` cannot run on this engine."""
    if release.base_digest != base:
        raise InvalidInput(
            f"Release '{release.ref}' was trained on another base model ({release.base_model}, {release.base_digest[:12]}), "
            f"not on the served one ({base[:12]}); serve that base too (bases in configs/models.yaml), or train again."
        )
    file, weights = directory / "adapter_config.json", directory / "adapter_model.safetensors"
    if not file.is_file() or not weights.is_file():
        raise InvalidInput(f"Release '{release.ref}' holds no LoRA (adapter_config.json and adapter_model.safetensors).")
    try:
        rank = int(json.loads(file.read_text(encoding="utf-8")).get("r", 0))
    except (ValueError, TypeError, AttributeError):
        raise InvalidInput(f"Release '{release.ref}' has an adapter_config.json that cannot be read; train it again.") from None
    if not 0 < rank <= max_rank:
        raise InvalidInput(f"Release '{release.ref}' has rank {rank}; the engine takes 1 to {max_rank} (engine.max_lora_rank).")
    _check_weights(weights, release.ref)


def _check_weights(file: Path, ref: str) -> None:
    """One number that is none would make every answer of the adapter nonsense, without an error from anybody."""
    try:
        with safe_open(file, framework="pt") as weights:
            wrong = next((name for name in weights.keys() if not weights.get_tensor(name).isfinite().all()), None)  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InvalidInput(f"The weights of release '{ref}' cannot be read ({one_sentence(error)}); train it again.") from None
    if wrong is not None:
        raise InvalidInput(f"The weights of release '{ref}' are not all numbers ({wrong}); train it again.")
