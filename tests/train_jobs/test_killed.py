"""A training whose worker, driver and raylet are killed ends like one that was left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.catalog import Catalog, agents, runs
from cluster.domain.agents import Agent
from cluster.domain.base import Frozen
from cluster.domain.recipes import LoraRecipe, SftRecipe
from cluster.domain.runs import Run
from cluster.job_run import JobRun
from cluster.settings import ROOT, Settings
from train_jobs import training

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
Opener = Callable[[str, Frozen], JobRun]
STEPS, INTERVAL = 100, 10
PROMPT = "Write one shell command."
KILLS = (("worker", 0.25), ("driver", 0.5), ("raylet", 0.9))
NODES = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster()
cluster.add_node(num_cpus=0, object_store_memory=150 << 20, include_dashboard=False)
def add():
    cluster.add_node(num_cpus=2, object_store_memory=150 << 20)
add()
add()
print(cluster.address, flush=True)
for line in sys.stdin:
    add()
    print("added", flush=True)
cluster.shutdown()
"""


class Nodes:
    """A head without cores, so that the driver's node is nobody's to kill, and nodes for workers."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", NODES]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.address = self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def add(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("add\n")
        self.process.stdin.flush()
        assert self._line() == "added"

    def workers(self) -> list[psutil.Process]:
        """The processes that train: the title changes while an actor answers, the actor's name in it does not."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        return [one for one in below if "RayTrainWorker" in _title(one)]

    def worker(self) -> psutil.Process:
        """The one process that trains, when it is there."""
        deadline = time.monotonic() + 30
        while not (found := self.workers()):
            assert time.monotonic() < deadline, (
                f"nobody trains: {[_title(one) for one in psutil.Process(self.process.pid).children(True)]}"
            )
            time.sleep(0.02)
        return found[0]

    def end(self) -> None:
        self.process.communicate("")


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    made = Nodes()
    yield made
    made.end()


class Driver:
    """``python -m train_jobs.sft --run ID``, started again when it was killed, as control does."""

    def __init__(self, settings: Settings, run: Run, address: str, settings_file: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TREADLE_")}
        self._env = kept | {"TREADLE_HOME": str(settings.home), "TREADLE_SETTINGS": str(settings_file), "RAY_ADDRESS": address}
        self._run, self._catalog = run, Catalog(settings.catalog_url)
        self.log = settings.home / f"{run.id}.log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "train_jobs.sft", "--run", self._run.id]
            self.process = subprocess.Popen(command, cwd=ROOT, env=self._env, stdout=log, stderr=log)

    def now(self) -> Run:
        with self._catalog.reading() as work:
            return runs.get(work, self._run.id)

    def step(self) -> int:
        """The newest step that the run has told of."""
        words = self.now().message.split()
        return int(words[1]) if words[:1] == ["step"] else 0


@pytest.fixture(scope="module")
def recipe(base: Path, files: dict[str, str]) -> SftRecipe:
    return SftRecipe(
        agent="linux", base=str(base), rows=files["sft"], max_steps=STEPS, batch_size=96, threads=1, checkpoint_every=INTERVAL,
        lora=LoraRecipe(rank=8, alpha=16), learning_rate=2e-3,
    )  # fmt: skip


@pytest.fixture
def begun(
    nodes: Nodes,
    recipe: SftRecipe,
    open_job: Opener,
    trainers_home: Settings,
    settings_file: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Driver]:
    # An agent of its own for each test: the adapters are the same byte for byte, and the same again is no release.
    agent = f"killed-{request.node.name.translate(str.maketrans('_[', '--', ']'))}"[:60]
    job = open_job("train_jobs.sft", recipe.model_copy(update={"agent": agent}))
    with job.catalog.transaction() as work:
        agents.save(work, Agent(name=agent, prompt=PROMPT))
    with job.catalog.transaction() as work:
        run = runs.change(work, job.run.id, attempts=0, state="queued")
    driver = Driver(trainers_home, run, nodes.address, settings_file)
    yield driver
    if driver.process.poll() is None:
        driver.process.kill()
        driver.process.wait()


@pytest.fixture(scope="module")
def unbroken() -> dict[str, Any]:
    return {}


def followed(driver: Driver, until: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 300
    while not until():
        run = driver.now()
        assert run.state != "failed", f"{run.error}\n{driver.log.read_text()[-3000:]}"
        assert time.monotonic() < deadline, f"{what} did not come: {run.message}\n{driver.log.read_text()[-3000:]}"
        time.sleep(0.05)


def kill(what: str, driver: Driver, nodes: Nodes) -> None:
    if what == "driver":
        driver.process.kill()
        driver.process.wait()
        driver.start()
        return
    worker = nodes.worker()
    if what == "worker":
        os.kill(worker.pid, signal.SIGKILL)
        return
    raylet = worker.parent()
    assert raylet is not None
    assert "raylet" in raylet.name()
    os.kill(raylet.pid, signal.SIGKILL)
    nodes.add()


def ended(driver: Driver) -> dict[str, Any]:
    followed(driver, lambda: driver.now().over, "the end")
    driver.process.wait(60)
    run = driver.now()
    assert run.state == "succeeded", f"{run.error}\n{driver.log.read_text()[-3000:]}"
    assert run.result is not None
    return run.result


def test_left_alone(begun: Driver, unbroken: dict[str, Any]) -> None:
    unbroken |= ended(begun)
    assert unbroken["steps"] == STEPS
    assert unbroken["repeated_steps"] == 0


def test_killed_three_times(begun: Driver, nodes: Nodes, unbroken: dict[str, Any]) -> None:
    for what, share in KILLS:
        followed(begun, lambda share=share: begun.step() >= share * STEPS, f"step {share * STEPS:g}")  # type: ignore[misc]
        before = begun.step()
        kill(what, begun, nodes)
        # What was told before the kill may still come in: the run has gone on when a step comes that is not the next one.
        followed(begun, lambda before=before: begun.step() not in (0, before) or begun.now().over, "a step")  # type: ignore[misc]
        assert begun.step() > before - INTERVAL, f"after the {what} was killed at step {before} it went on from {begun.step()}"
    result = ended(begun)
    assert result["steps"] == STEPS
    assert result["metrics"]["train_loss"] == pytest.approx(unbroken["metrics"]["train_loss"], rel=0.01)


def test_killed_while_a_checkpoint_is_written(
    begun: Driver, nodes: Nodes, unbroken: dict[str, Any], trainers_home: Settings, open_job: Opener
) -> None:
    place = Path(training.storage(open_job("train_jobs.sft", SftRecipe(agent="linux", rows="x")))) / begun.now().id

    def written() -> set[Path]:
        return set(place.glob("checkpoint_*"))

    followed(begun, lambda: len(written()) >= 1, "a checkpoint")
    known = written()
    deadline = time.monotonic() + 200
    while written() <= known and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(nodes.worker().pid, signal.SIGKILL)
    result = ended(begun)
    assert result["steps"] == STEPS
    assert result["repeated_steps"] <= 2 * INTERVAL
    assert result["metrics"]["train_loss"] == pytest.approx(unbroken["metrics"]["train_loss"], rel=0.01)


def test_a_checkpoint_that_was_cut_short_is_passed_over(
    begun: Driver, nodes: Nodes, unbroken: dict[str, Any], open_job: Opener
) -> None:
    place = Path(training.storage(open_job("train_jobs.sft", SftRecipe(agent="linux", rows="x")))) / begun.now().id
    followed(begun, lambda: begun.step() >= 3 * INTERVAL, f"step {3 * INTERVAL}")
    begun.process.kill()
    begun.process.wait()
    deadline = time.monotonic() + 60
    while nodes.workers() and time.monotonic() < deadline:
        time.sleep(0.1)
    snapshot = json.loads((place / "checkpoint_manager_snapshot.json").read_text())
    assert snapshot
    newest = max(place.glob("checkpoint_*/sealed-0.json"), key=lambda file: json.loads(file.read_text())["step"]).parent
    (newest / "optimizer.pt").write_bytes((newest / "optimizer.pt").read_bytes()[:100])
    begun.start()
    result = ended(begun)
    assert result["steps"] == STEPS
    assert result["metrics"]["train_loss"] == pytest.approx(unbroken["metrics"]["train_loss"], rel=0.01)
