"""One local cluster with the whole application, shared by the tests of the loop."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from cluster import ray_lifecycle
from cluster.cli.console import Home
from cluster.flywheel import Plan, Wheel
from cluster.settings import ROOT, load_settings


class Loop:
    """The cluster, and a person's ways to it."""

    def __init__(self, home: Home, env: dict[str, str]) -> None:
        self.home, self.env = home, env
        self.wheel = Wheel(home.settings, home.catalog, home.registry, home.submitter)

    @property
    def where(self) -> ray_lifecycle.ClusterState:
        return ray_lifecycle.connection(self.home.settings)

    def command(self, *words: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command of the virtual environment, as a person would."""
        tool = str(Path(sys.executable).parent / words[0])
        return subprocess.run(
            [tool, *words[1:]], capture_output=True, text=True, cwd=cwd, env={**self.env, **(env or {})}, check=False, timeout=420
        )


@pytest.fixture(scope="session")
def loop(tmp_path_factory: pytest.TempPathFactory, settings_file: Path) -> Iterator[Loop]:
    """`treadle up` on free ports in a home of its own; everything it started is ended."""
    scratch = tmp_path_factory.mktemp("loop")
    given = {"TREADLE_HOME": str(scratch / "home"), "TREADLE_SETTINGS": str(settings_file)}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TREADLE_")}
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update({**clean, **given})
    try:
        settings = load_settings()
        made = Loop(Home(), {**clean, **given})
        started = made.command("treadle", "up", "--json")
        assert started.returncode == 0, started.stderr
        yield made
    finally:
        if ray_lifecycle.state(settings) is not None:
            ray_lifecycle.stop(settings, lambda line: None)
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The demo's plan with trainings of a few steps: enough to make releases, not to be good ones."""
    from cluster.settings import load_recipe

    shipped: Plan = load_recipe(Plan, ROOT / "configs" / "demo" / "plan.yaml")
    few: dict[str, Any] = {"max_steps": 4, "batch_size": 8}
    return shipped.model_copy(
        update={
            "agents": {
                name: one.model_copy(
                    update={"sft": one.sft.model_copy(update=few), "dpo": one.dpo and one.dpo.model_copy(update=few)}
                )
                for name, one in shipped.agents.items()
            }
        }
    )
