"""What all tests share: a home of their own, and parts opened on it."""

import os
from pathlib import Path
from typing import Iterator

import pytest

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog
from cluster.domain.agents import Agent
from cluster.settings import Settings, load_settings

SETTINGS = """
profile: laptop
models: configs/models.yaml
profiles:
  laptop:
    ray: {logical_cpus: 16, object_store_gib: 0.3, gcs_port: 0, dashboard_port: 0}
    serve: {port: 0}
    mlflow: {port: 0}
    engine: {device: cpu, dtype: float32, kv_cache_gib: 0.5, max_model_len: 1024, max_lora_rank: 32, max_loras: 4, enforce_eager: true}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh TREADLE_HOME with free ports."""
    file = tmp_path / "treadle.yaml"
    file.write_text(SETTINGS)
    for name in [name for name in os.environ if name.startswith("TREADLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TREADLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TREADLE_SETTINGS", str(file))
    return tmp_path / "home"


@pytest.fixture
def settings(home: Path) -> Settings:
    return load_settings()


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    opened = Catalog(settings.catalog_url).prepare()
    yield opened
    opened.close()


@pytest.fixture
def artifacts(settings: Settings) -> Artifacts:
    return Artifacts(settings.artifacts_url, settings.home / "cache")


@pytest.fixture
def agent() -> Agent:
    return Agent(name="linux", prompt="Write one shell command.")
