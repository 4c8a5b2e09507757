"""An MLflow store to copy (making its tables takes seconds), and a PostgreSQL of these tests' own."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Iterator

import pytest

from cluster.ray_lifecycle import free_port


@pytest.fixture(scope="package")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with MLflow's tables and nothing in them."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture(scope="package")
def postgresql() -> Iterator[str]:
    """The URL of an empty database on a PostgreSQL server that ends with the tests. It refuses to run as root, who becomes nobody."""
    if shutil.which("postgres") is None or shutil.which("initdb") is None:
        pytest.skip("there is no PostgreSQL server on this machine")
    folder = Path(tempfile.mkdtemp(prefix="treadle-pg-"))
    who = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    if who:
        shutil.chown(folder, "nobody")
    port = free_port()
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": folder, **who}
    subprocess.run(["initdb", "-D", folder / "data", "-U", "treadle", "--auth=trust", "--no-sync", "-E", "UTF8"], **quiet)
    server = ["pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log"]
    subprocess.run([*server, "-o", f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off", "start"], **quiet)
    try:
        subprocess.run(["createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "treadle", "treadle"], **quiet)
        yield f"postgresql+psycopg://treadle@127.0.0.1:{port}/treadle"
    finally:
        subprocess.run([*server, "-m", "immediate", "stop"], **quiet)
        shutil.rmtree(folder, ignore_errors=True)
