"""What all tests share: a home of their own, parts opened on it, and one Ray token.

A process cannot change its Ray token once it has met a Ray, and every package of tests starts a Ray of its own: so all of them take the
token that is made here.
"""

import os
import secrets
import shutil
import tempfile
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


TOKEN_FOLDER = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    folder = config.stash[TOKEN_FOLDER] = tempfile.mkdtemp(prefix="treadle-tests-")
    token = Path(folder) / "ray_token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    os.environ.pop("RAY_ADDRESS", None)


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[TOKEN_FOLDER], ignore_errors=True)


@pytest.fixture(scope="session")
def settings_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings for this machine, every port a free one."""
    file = tmp_path_factory.mktemp("settings") / "treadle.yaml"
    file.write_text(SETTINGS)
    return file


@pytest.fixture
def home(tmp_path: Path, settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh TREADLE_HOME with free ports."""
    for name in [name for name in os.environ if name.startswith("TREADLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TREADLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TREADLE_SETTINGS", str(settings_file))
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
