"""A training whose worker, driver and node are killed ends like one that was left alone."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog, agents, runs
from cluster.domain.agents import Agent
from cluster.domain.recipes import LoraRecipe, SftRecipe
from cluster.domain.runs import Run
from cluster.settings import ROOT, Settings
from tests.train_jobs.conftest import PROMPT, settings_of_home
from train_jobs import checkpoints

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
STEPS, INTERVAL = 100, 10
SHARES = (0.25, 0.5, 0.9)
ORDERS = (("worker", "driver", "node"), ("driver", "node", "worker"), ("node", "worker", "driver"))  # each at each share
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
print(cluster.head_node.get_logs_dir_path(), flush=True)
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
        self.address, self.logs = self._line(), Path(self._line())

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


def _resumed(logs: Path) -> Counter[int]:
    words = re.compile(r"Training goes on from step (\d+)\.")
    return Counter(int(step) for file in logs.glob("worker-*.out") for step in words.findall(file.read_text()))


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

    def __init__(self, settings: Settings, run: Run, nodes: Nodes, settings_file: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TREADLE_")}
        ours = {"TREADLE_HOME": str(settings.home), "TREADLE_SETTINGS": str(settings_file), "RAY_ADDRESS": nodes.address}
        self._env = kept | ours
        self._logs, self._before = nodes.logs, _resumed(nodes.logs)
        self._storage = Path(Artifacts(settings.artifacts_url, settings.home / "cache").root) / "training"
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

    @property
    def place(self) -> Path:
        """Where the run's checkpoints lie."""
        return self._storage / self._run.id

    def saved(self) -> int:
        """The step of the newest checkpoint that Ray Train has listed."""
        try:
            listed = json.loads((self.place / "checkpoint_manager_snapshot.json").read_text())["checkpoint_results"]
            return max(checkpoints.step_of(self.place / one["checkpoint_dir_name"]) for one in listed)
        except (OSError, ValueError):  # none yet, or one is being written
            return 0

    def went_on_from(self) -> list[int]:
        """The steps at which training went on, as the workers' own output has them (the driver's copy of it may lack the end)."""
        return sorted((_resumed(self._logs) - self._before).elements())


@pytest.fixture(scope="module")
def recipe(base: Path, files: dict[str, str]) -> SftRecipe:
    return SftRecipe(
        agent="linux", base=str(base), rows=files["sft"], max_steps=STEPS, batch_size=192, threads=1, checkpoint_every=INTERVAL,
        lora=LoraRecipe(rank=8, alpha=16), learning_rate=2e-3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def killed_home(tmp_path_factory: pytest.TempPathFactory, settings_file: Path) -> Settings:
    """A home in which no Ray was started: a driver would rather join that one."""
    return settings_of_home(tmp_path_factory.mktemp("killed"), settings_file)


@pytest.fixture
def begun(
    nodes: Nodes, recipe: SftRecipe, killed_home: Settings, settings_file: Path, request: pytest.FixtureRequest
) -> Iterator[Driver]:
    # An agent of its own for each test: the adapters are the same byte for byte, and the same again is no release.
    agent = f"killed-{request.node.name.translate(str.maketrans('_[', '--', ']'))}"[:60]
    run = Run(job="train_jobs.sft", recipe=recipe.model_copy(update={"agent": agent}).model_dump(mode="json"))
    catalog = Catalog(killed_home.catalog_url)
    with catalog.transaction() as work:
        agents.save(work, Agent(name=agent, prompt=PROMPT))
        runs.save(work, run)
    driver = Driver(killed_home, run, nodes, settings_file)
    yield driver
    if driver.process.poll() is None:
        driver.process.kill()
        driver.process.wait()
    catalog.close()


@pytest.fixture(scope="module")
def unbroken() -> dict[str, Any]:
    return {}


def followed(driver: Driver, until: Callable[[], bool], what: str, every: float = 0.02, at_the_end: bool = False) -> None:
    deadline = time.monotonic() + 300
    looked = 0.0
    while not until():
        if time.monotonic() - looked > 0.5:
            run, looked = driver.now(), time.monotonic()
            assert run.state != "failed", f"{run.error}\n{driver.log.read_text()[-3000:]}"
            assert not run.over or at_the_end, f"the training was over before {what} came"
            assert looked < deadline, f"{what} did not come: {run.message}\n{driver.log.read_text()[-3000:]}"
        time.sleep(every)


def kill_driver(driver: Driver) -> None:
    driver.process.kill()
    driver.process.wait()
    driver.start()


def kill(what: str, driver: Driver, nodes: Nodes) -> None:
    if what == "driver":
        kill_driver(driver)
        return
    worker = nodes.worker()
    raylet = worker.parent()
    assert raylet is not None
    assert "raylet" in raylet.name()
    if what == "worker":
        os.kill(worker.pid, signal.SIGKILL)
        return
    # Without its raylet a busy worker goes on for the 15 s until the node counts as dead: a machine that dies takes both.
    for process in [raylet] if what == "raylet alone" else [raylet, *raylet.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    nodes.add()


def ended(driver: Driver) -> dict[str, Any]:
    followed(driver, lambda: driver.now().over, "the end", at_the_end=True)
    driver.process.wait(60)
    run = driver.now()
    assert run.state == "succeeded", f"{run.error}\n{driver.log.read_text()[-3000:]}"
    assert run.result is not None
    return run.result


def test_left_alone(begun: Driver, unbroken: dict[str, Any]) -> None:
    unbroken |= ended(begun)
    assert unbroken["steps"] == STEPS
    assert unbroken["repeated_steps"] == 0


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_killed_three_times(order: tuple[str, ...], begun: Driver, nodes: Nodes, unbroken: dict[str, Any]) -> None:
    saved = []
    for what, share in zip(order, SHARES, strict=True):
        followed(begun, lambda share=share: begun.saved() >= share * STEPS, f"a checkpoint at {share:.0%}")  # type: ignore[misc]
        saved.append(begun.saved())
        kill(what, begun, nodes)
    result = ended(begun)
    went_on = begun.went_on_from()
    assert len(went_on) == len(order)
    assert all(step >= before for step, before in zip(went_on, saved, strict=True)), f"{went_on} after {saved} were saved"
    assert result["steps"] == STEPS
    assert result["repeated_steps"] <= len(order) * INTERVAL
    assert result["metrics"]["train_loss"] == pytest.approx(unbroken["metrics"]["train_loss"], rel=0.01)


def test_a_driver_killed_after_the_last_step_ends_with_the_same(begun: Driver, unbroken: dict[str, Any]) -> None:
    """What the workers hand over at the end is an adapter without the trainer's state: nothing to go on from."""

    def handed_over() -> bool:
        sealed = (one for one in begun.place.glob("checkpoint_*") if not (one / "trainer_state.json").exists())
        return any((one / "sealed-0.json").is_file() and checkpoints.step_of(one) == STEPS for one in sealed)

    followed(begun, handed_over, "the adapter", every=0.001)
    kill_driver(begun)
    result = ended(begun)
    assert result["steps"] == STEPS
    assert result["repeated_steps"] <= INTERVAL
    assert result["metrics"]["train_loss"] == pytest.approx(unbroken["metrics"]["train_loss"], rel=0.01)


def test_killed_while_a_checkpoint_is_written(begun: Driver, nodes: Nodes, unbroken: dict[str, Any]) -> None:
    followed(begun, lambda: begun.saved() >= INTERVAL, "a checkpoint")
    worker, known, before = nodes.worker(), set(begun.place.glob("checkpoint_*")), begun.saved()
    followed(begun, lambda: not set(begun.place.glob("checkpoint_*")) <= known, "the next checkpoint", every=0.001)
    os.kill(worker.pid, signal.SIGKILL)
    result = ended(begun)
    (went_on,) = begun.went_on_from()
    assert went_on >= before
    assert result["steps"] == STEPS
    assert result["repeated_steps"] <= INTERVAL
    assert result["metrics"]["train_loss"] == pytest.approx(unbroken["metrics"]["train_loss"], rel=0.01)


def test_a_raylet_alone_that_is_killed_costs_nothing(begun: Driver, nodes: Nodes, unbroken: dict[str, Any]) -> None:
    followed(begun, lambda: begun.saved() >= STEPS / 2, "a checkpoint at half")
    kill("raylet alone", begun, nodes)
    result = ended(begun)
    assert result["steps"] == STEPS
    assert result["repeated_steps"] <= INTERVAL
    assert result["metrics"]["train_loss"] == pytest.approx(unbroken["metrics"]["train_loss"], rel=0.01)


@pytest.mark.parametrize("file", ["optimizer.pt", "../checkpoint_manager_snapshot.json"], ids=["checkpoint", "list"])
def test_a_checkpoint_that_was_cut_short_is_passed_over(file: str, begun: Driver, nodes: Nodes, unbroken: dict[str, Any]) -> None:
    followed(begun, lambda: begun.saved() >= 3 * INTERVAL, f"step {3 * INTERVAL}")
    begun.process.kill()
    begun.process.wait()
    deadline = time.monotonic() + 60
    while nodes.workers() and time.monotonic() < deadline:
        time.sleep(0.1)
    sealed = sorted((checkpoints.step_of(one.parent), one.parent) for one in begun.place.glob("checkpoint_*/sealed-0.json"))
    cut = sealed[-1][1] / file
    cut.write_bytes(cut.read_bytes()[:100])
    begun.start()
    result = ended(begun)
    assert begun.went_on_from() == [sealed[-2 if file == "optimizer.pt" else -1][0]]
    assert result["steps"] == STEPS
    assert result["metrics"]["train_loss"] == pytest.approx(unbroken["metrics"]["train_loss"], rel=0.01)
