"""What becomes of a trained adapter when the catalog, the artifact store or MLflow is away."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from cluster import unregistered
from cluster.artifacts import Artifacts
from cluster.catalog import Catalog, releases, runs, untold
from cluster.domain.agents import Agent
from cluster.domain.datasets import Dataset
from cluster.domain.runs import Run
from cluster.errors import Conflict, IntegrityError, NotFound, Unavailable
from cluster.ray_lifecycle import free_port
from cluster.registry import Registry
from cluster.unregistered import Registration

NOWHERE = "postgresql+psycopg://nobody@127.0.0.1:1/none"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(unregistered, "_PAUSES", (0.0,))


@pytest.fixture
def registry(settings, catalog, artifacts, empty_mlflow):
    shutil.copyfile(empty_mlflow, settings.home / "mlflow.db")
    return Registry(settings, catalog, artifacts)


@pytest.fixture
def run(catalog):
    made = Run(job="train_jobs.sft", state="running", attempts=1)
    with catalog.transaction() as work:
        runs.save(work, made)
    return made


@pytest.fixture
def adapter(tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "adapter_config.json").write_text("{}")
    return folder


def registration(run, **changes):
    return Registration(card=Agent(name="linux"), base_model="starter", base_digest="b", run_id=run.id, **changes)


def test_without_a_catalog_adapter_and_curves_are_kept_here_and_registered_later(
    registry, settings, catalog, artifacts, run, adapter
):
    away = Registry(settings, Catalog(NOWHERE), artifacts)
    away._silent_until = float("inf")  # MLflow is away too
    opened = away.start_run(
        "linux", run.id, {"max_steps": 3}, [Dataset(digest="d" * 64, name="rows", kind="sft", rows=1, uri="u")]
    )
    away.log_curves(opened, [(1, {"loss": 2.0}), (2, {"loss": 1.0})])
    with pytest.raises(
        Unavailable, match=rf"{run.id} is trained .* cannot be used.* kept in .*{run.id}: treadle releases reconcile"
    ):
        unregistered.register(away, adapter, registration(run, mlflow_run_id=opened, metrics={"train_loss": 1.0}))
    away.finish_run(opened, failed=True)
    assert unregistered.waiting(settings.home) == [run.id]

    done = unregistered.reconciled(registry)
    assert done.registered == ("linux@0.1.0",)
    assert unregistered.waiting(settings.home) == []
    assert not (settings.home / "unregistered" / run.id).exists()
    with catalog.reading() as work:
        release = releases.get(work, "linux@0.1.0")
        assert (runs.get(work, run.id).state, runs.get(work, run.id).result) == ("succeeded", {"release": release.ref})
        assert untold.runs(work) == []
    assert (release.run_id, release.metrics) == (run.id, {"train_loss": 1.0})
    assert (artifacts.fetch(release.adapter_uri, release.adapter_digest) / "adapter_model.safetensors").read_bytes() == b"weights"
    client = registry.client
    told = client.get_run(registry.run_of(run.id))
    assert told.data.params == {"max_steps": "3"}
    assert [point.value for point in client.get_metric_history(told.info.run_id, "loss")] == [2.0, 1.0]
    assert [one.dataset.name for one in told.inputs.dataset_inputs] == ["rows"]
    version = client.get_model_version_by_alias("treadle.linux", "challenger")
    assert version.run_id == told.info.run_id
    assert unregistered.reconciled(registry).runs == 0, "twice is once"
    with pytest.raises(NotFound, match="Nothing is kept"):
        unregistered.register_kept(registry, run.id)


def test_a_store_that_cannot_be_written_keeps_the_adapter_and_the_next_attempt_registers_it(
    registry, settings, catalog, tmp_path, run, adapter
):
    (tmp_path / "full").write_text("a file where the store should be")
    away = Registry(settings, catalog, Artifacts(str(tmp_path / "full")))
    with pytest.raises(Unavailable, match=r"artifact store .* cannot be written"):
        unregistered.register(away, adapter, registration(run))
    release = unregistered.register_kept(registry, run.id)
    assert release.ref == "linux@0.1.0"
    # A process that died between registering and tidying up leaves the folder: the release is not made twice.
    unregistered._keep(settings.home, adapter, registration(run))
    assert unregistered.register_kept(registry, run.id).ref == release.ref


def test_kept_files_that_changed_are_refused_and_the_others_go_on(registry, settings, catalog, run, adapter):
    other = Run(job="train_jobs.sft")
    with catalog.transaction() as work:
        runs.save(work, other)
    broken = unregistered._keep(settings.home, adapter, registration(run))
    unregistered._keep(settings.home, adapter, registration(other))
    (broken / "adapter" / "adapter_model.safetensors").write_bytes(b"weightS")
    (settings.home / "unregistered" / "run_unfinished").mkdir()  # killed while it was written
    with pytest.raises(IntegrityError, match=r"adapter_model\.safetensors has changed since it was kept"):
        unregistered.reconciled(registry)
    with catalog.reading() as work:
        assert [one.run_id for one in releases.everything(work)] == [other.id]
    assert unregistered.waiting(settings.home) == [run.id]


def test_nothing_changed_keeps_nothing(registry, settings, run, adapter):
    first = unregistered.register(registry, adapter, registration(run))
    with pytest.raises(Conflict, match="nothing changed"):
        unregistered.register(registry, adapter, registration(run, parent=first.ref))
    assert unregistered.waiting(settings.home) == []


def test_a_run_goes_on_while_the_catalog_is_away(settings, run, caplog):
    from cluster.job_run import JobRun

    job = JobRun(settings.model_copy(update={"catalog_url": NOWHERE}), run)
    job.progress(0.5, "step 5 of 10", loss=1.0)
    assert "step 5 of 10" in caplog.text


@pytest.fixture
def server(tmp_path, empty_mlflow):
    """A real MLflow server: its URL, its store, and its process, to be killed."""
    store, port = shutil.copyfile(empty_mlflow, tmp_path / "served.db"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{store}", "--default-artifact-root", str(tmp_path / "mlartifacts")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    process = subprocess.Popen(command, env=os.environ, **quiet)
    url = f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None and not answers(url):
            time.sleep(0.2)
        yield url, store, process
    finally:
        end(process)


def answers(url):
    try:
        return urllib.request.urlopen(f"{url}/health", timeout=5).status == 200
    except OSError:
        return False


def end(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.real
@pytest.mark.timeout(600)
def test_mlflow_stopped_in_the_middle_of_a_training_is_told_when_it_is_back(
    settings, catalog, artifacts, server, run, adapter, tmp_path
):
    url, store, process = server
    registry = Registry(settings.model_copy(update={"mlflow_url": url}), catalog, artifacts)
    opened = registry.start_run("linux", run.id, {"max_steps": 4})
    registry.log_curves(opened, [(1, {"loss": 4.0}), (2, {"loss": 3.0})])
    first = unregistered.register(registry, adapter, registration(Run(job="train_jobs.sft")))
    assert registry.client.get_model_version_by_alias("treadle.linux", "challenger").tags["adapter_uri"] == first.adapter_uri

    end(process)
    registry.log_curves(opened, [(3, {"loss": 2.0}), (4, {"loss": 1.0})])
    (tmp_path / "plot.svg").write_text("<svg/>")
    registry.log_file(opened, tmp_path / "plot.svg", "plots")
    registry.log_json(opened, {"a": 1}, "about.json")
    (adapter / "adapter_model.safetensors").write_bytes(b"better")
    release = unregistered.register(registry, adapter, registration(run, mlflow_run_id=opened))
    registry.promote(release.ref)
    registry.finish_run(opened)
    later = registry.start_run("linux", "run_later", {"max_steps": 9})
    assert later == "waiting:run_later"
    registry.finish_run(later)
    with pytest.raises(Unavailable, match=rf"MLflow at {url} does not take what waits of run"):
        registry.reconcile()

    back = Registry(settings.model_copy(update={"mlflow_url": f"sqlite:///{store}"}), catalog, artifacts)  # quicker than a server
    assert back.reconcile().runs == 2
    client = back.client
    assert client.get_run(opened).info.status == "FINISHED"
    assert [(point.step, point.value) for point in client.get_metric_history(opened, "loss")] == [(1, 4), (2, 3), (3, 2), (4, 1)]
    assert {file.path for file in client.list_artifacts(opened)} == {"about.json", "lineage.png", "plots", "release.json"}
    version = client.get_model_version_by_alias("treadle.linux", "champion")
    assert (version.tags["semver"], version.run_id) == (release.version, opened)
    assert client.get_run(back.run_of("run_later")).data.params == {"max_steps": "9"}
