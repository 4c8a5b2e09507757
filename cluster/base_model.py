"""The base model as bytes: where it lies and what its digest is. Knows nothing of how it is run."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from cluster.errors import NotFound
from cluster.model_roles import EngineSettings, ModelRole
from cluster.settings import Settings

_WHOLE_FILE_BYTES = 256 << 20
_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16


def base_role(settings: Settings, named: str | None = None) -> ModelRole:
    """The first base of the settings, or the one that a recipe names: a served one by its name or path, any by its path or hub id."""
    if not named:
        return settings.models.base
    served = next((role for role in settings.bases if named in (role.name, role.path)), None)
    return served or ModelRole(path=named, name=Path(named).name)


def base_of(settings: Settings, digest: str) -> ModelRole | None:
    """The served base with this digest."""
    return next((role for role in settings.bases if not role.endpoint and base_digest(role) == digest), None)


def engine_of(settings: Settings, role: ModelRole) -> EngineSettings:
    """What the engine of this base runs with; of one that is not served, what the first base's does."""
    return settings.for_base(role.name).engine if role in settings.bases else settings.engine


def config(location: str) -> dict[str, Any]:
    """The model's ``config.json``. Raises NotFound naming the path."""
    file = Path(location) / "config.json"
    if not file.is_file():
        raise NotFound(
            f"There is no model at '{location}' (no config.json); set the role in configs/models.yaml to a model directory."
        )
    value: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return value


def base_digest(role: ModelRole) -> str:
    """SHA-256 that identifies the base's weights, tokenizer and template.

    Files up to 256 MiB are hashed whole; of larger ones the size and 64 evenly spaced 64 KiB blocks, so that a 70 B base is
    identified in seconds. A hub id that is not on disk is identified by its name.
    """
    location = role.location
    return _digest_at(location) if Path(location).is_dir() else hashlib.sha256(location.encode()).hexdigest()


@lru_cache(maxsize=8)
def _digest_at(location: str) -> str:
    config(location)
    total = hashlib.sha256()
    for file in sorted(Path(location).iterdir()):
        if file.suffix not in (".json", ".safetensors", ".jinja"):
            continue
        size = file.stat().st_size
        total.update(f"{file.name}:{size}:".encode())
        with file.open("rb") as stream:
            if size <= _WHOLE_FILE_BYTES:
                total.update(stream.read())
                continue
            for sample in range(_SAMPLES):
                stream.seek(sample * (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
                total.update(stream.read(_SAMPLE_BYTES))
    return total.hexdigest()
