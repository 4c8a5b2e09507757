"""An MLflow store to copy (making its tables takes seconds), and a PostgreSQL of these tests' own."""

from pathlib import Path
from typing import Iterator

import pytest

from tests.benchmarks import postgres


@pytest.fixture(scope="package")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with MLflow's tables and nothing in them."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture(scope="package")
def postgresql() -> Iterator[str]:
    """The URL of an empty database on a PostgreSQL server that ends with the tests."""
    if not postgres.installed():
        pytest.skip("there is no PostgreSQL server on this machine")
    with postgres.server() as url:
        yield url
