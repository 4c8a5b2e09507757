"""Settings of a laptop without a GPU, every port a free one: for tests and for benchmarks that start a Ray of their own."""

import json
from pathlib import Path
from typing import Any


def write_settings(folder: Path, router: dict[str, Any] | None = None, **engine: Any) -> Path:
    """Writes ``treadle.yaml`` into ``folder`` and returns it; ``engine`` is put over the engine's settings, ``router`` are the router's."""
    usual = {"device": "cpu", "dtype": "float32", "kv_cache_gib": 0.5, "max_model_len": 1024, "max_lora_rank": 32, "max_loras": 4}
    laptop = {
        "catalog_url": "${TREADLE_CATALOG_URL:-}",
        "ray": {"logical_cpus": 16, "object_store_gib": 0.3, "gcs_port": 0, "dashboard_port": 0},
        "serve": {"port": 0},
        "mlflow": {"port": 0},
        "router": router or {},
        "engine": {**usual, "enforce_eager": True, **engine},
    }
    file = folder / "treadle.yaml"
    file.write_text(json.dumps({"profile": "laptop", "models": "configs/models.yaml", "profiles": {"laptop": laptop}}))
    return file
