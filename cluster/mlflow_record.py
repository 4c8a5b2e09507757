"""MLflow's only home: a run for each training (``cluster.mlflow_releases`` adds the registered models).

MLflow is the public record and never a condition: what it cannot be told now (parameters, curves, files, the end of a run) is kept in
the catalog, in order, and told by ``tell_again``; a training neither waits for MLflow nor fails with it. Telling twice is telling once:
runs are found by their tag, and a point keeps the moment it was measured at.
"""

import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Sequence

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog, untold
from cluster.domain.base import flat
from cluster.domain.datasets import Dataset
from cluster.errors import Unavailable, one_sentence
from cluster.settings import Settings

log = logging.getLogger(__name__)
MODEL_PREFIX = "treadle."
WAITING = "waiting:"
"""How the stand-in for an MLflow run begins that could not be opened; the run's id follows."""
_SILENCE_SECONDS = 30.0  # after a failure nothing is tried for so long: a training must not wait for every point


class MlflowRecord:
    """What is said to MLflow of runs. ``catalog`` and ``artifacts`` are this process's own."""

    def __init__(self, settings: Settings, catalog: Catalog, artifacts: Artifacts) -> None:
        self._settings, self._catalog, self._artifacts = settings, catalog, artifacts
        self._client: Any = None
        self._silent_until = 0.0
        self._opened: dict[str, str] = {}  # MLflow's ids of runs that were opened late

    @property
    def home(self) -> Path:
        """This machine's TREADLE_HOME."""
        return self._settings.home

    @property
    def catalog(self) -> Catalog:
        """The catalog that is written first."""
        return self._catalog

    @property
    def client(self) -> Any:
        """The MlflowClient (imported late: it costs seconds)."""
        if self._client is None:
            # Its own patience is minutes for every call; ours is the backlog.
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
            from mlflow import MlflowClient

            logging.getLogger("mlflow").setLevel(logging.WARNING)
            logging.getLogger("alembic").setLevel(logging.WARNING)
            self._client = MlflowClient(tracking_uri=self._settings.mlflow_url, registry_uri=self._settings.mlflow_url)
        return self._client

    # Runs

    def start_run(
        self, agent: str, run_id: str, params: dict[str, Any], inputs: Sequence[Dataset] = (), parent: str | None = None
    ) -> str:
        """Open the MLflow run of a training; returns its id, or a stand-in when MLflow does not answer. ``params`` is the recipe
        (nested keys become dotted). A run that was opened before under the same ``run_id`` (a resumed training) is continued.
        """
        entry = {
            "do": "start",
            "agent": agent,
            "run_id": run_id,
            "params": {key: str(value)[:6000] for key, value in flat(params).items()},
            "inputs": [one.model_dump(mode="json", include={"name", "digest", "uri", "rows", "kind"}) for one in inputs],
            "parent": parent or "",
            "at": _milliseconds(),
        }
        return self._tell(f"{WAITING}{run_id}", entry) or f"{WAITING}{run_id}"

    def log_metrics(self, mlflow_run_id: str, metrics: dict[str, float], step: int = 0) -> None:
        """Add points to the run's curves."""
        self.log_curves(mlflow_run_id, [(step, metrics)])

    def log_curves(self, mlflow_run_id: str, points: Sequence[tuple[int, dict[str, float]]]) -> None:
        """Add many ``(step, metrics)`` points in one write."""
        moment = _milliseconds()
        flattened = [[name, float(value), moment, step] for step, metrics in points for name, value in metrics.items()]
        for start in range(0, len(flattened), 1000):
            self._tell(mlflow_run_id, {"do": "metrics", "points": flattened[start : start + 1000]})

    def log_file(self, mlflow_run_id: str, path: Path, folder: str | None = None) -> None:
        """Attach a file to the run."""
        run = self._opened.get(mlflow_run_id, mlflow_run_id)
        if not run.startswith(WAITING) and time.monotonic() >= self._silent_until:
            try:
                self.client.log_artifact(run, str(path), folder)
                return
            except Exception as error:
                self._missed(error)
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / path.name).write_bytes(path.read_bytes())
            bundle = self._artifacts.publish("untold", Path(scratch))
        self._keep(run, {"do": "file", "uri": bundle.uri, "name": path.name, "folder": folder})

    def log_json(self, mlflow_run_id: str, value: Any, name: str) -> None:
        """Attach a JSON value to the run as a file."""
        self._tell(mlflow_run_id, {"do": "text", "text": json.dumps(value, indent=1, default=str), "name": name})

    def finish_run(self, mlflow_run_id: str, failed: bool = False) -> None:
        """Close the run."""
        self._tell(mlflow_run_id, {"do": "finish", "status": "FAILED" if failed else "FINISHED"})

    # Telling, now or later

    def _tell(self, run: str, entry: dict[str, Any]) -> str | None:
        """Say it, or keep it for later; the id of the run that a start opened."""
        run = self._opened.get(run, run)
        if (entry["do"] == "start" or not run.startswith(WAITING)) and time.monotonic() >= self._silent_until:
            try:
                return self._say(run, entry)
            except Exception as error:  # whatever MLflow, its client or the network say: the training goes on
                self._missed(error)
        self._keep(run, entry)
        return None

    def _missed(self, error: Exception) -> None:
        self._silent_until = time.monotonic() + _SILENCE_SECONDS
        log.warning(
            "MLflow at %s was not told (%s); treadle releases reconcile tells it again.",
            self._settings.mlflow_url,
            one_sentence(error),
        )

    def _keep(self, run: str, entry: dict[str, Any]) -> None:
        try:
            with self._catalog.transaction() as work:
                untold.add(work, run, entry)
        except Unavailable:  # then on this machine
            self._aside.parent.mkdir(parents=True, exist_ok=True)
            with self._aside.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps([run, entry]) + "\n")

    @property
    def _aside(self) -> Path:
        return self._settings.home / "unregistered" / "untold.jsonl"

    def _say(self, run: str, entry: dict[str, Any]) -> str:
        """One entry of a run to MLflow; returns MLflow's id of the run. Raises what MLflow raises."""
        from mlflow.entities import Metric

        match entry["do"]:
            case "start":
                return self._open(entry)
            case "metrics":
                self.client.log_batch(run, metrics=[Metric(name, value, at, step) for name, value, at, step in entry["points"]])
            case "text":
                self.client.log_text(run, entry["text"], entry["name"])
            case "file":
                self.client.log_artifact(run, str(self._artifacts.fetch(entry["uri"]) / entry["name"]), entry["folder"])
            case "finish":
                self.client.set_terminated(run, status=entry["status"])
        return run

    def _open(self, entry: dict[str, Any]) -> str:
        from mlflow.entities import Dataset as MlflowDataset
        from mlflow.entities import DatasetInput, InputTag, Param

        agent, run_id = entry["agent"], entry["run_id"]
        experiment = self._experiment(agent)
        known = self.run_of(run_id)
        if known is not None:
            self.client.set_terminated(known, status="RUNNING")
            return known
        tags = {"treadle.run": run_id, "treadle.agent": agent, "treadle.parent": entry["parent"], "mlflow.source.type": "JOB"}
        opened = self.client.create_run(experiment, start_time=entry["at"], run_name=f"{agent}-{run_id[-6:]}", tags=tags)
        mlflow_id = str(opened.info.run_id)
        self.client.log_batch(mlflow_id, params=[Param(key, value) for key, value in entry["params"].items()])
        logged = [
            DatasetInput(
                MlflowDataset(
                    name=one["name"],
                    digest=one["digest"][:36],
                    source_type="treadle",
                    source=json.dumps({"uri": one["uri"]}),
                    profile=json.dumps({"num_rows": one["rows"], "kind": one["kind"]}),
                ),
                [InputTag("mlflow.data.context", "training")],
            )
            for one in entry["inputs"]
        ]
        if logged:
            self.client.log_inputs(mlflow_id, logged)
        return mlflow_id

    def run_of(self, run_id: str) -> str | None:
        """MLflow's id of the run that was opened under ``run_id``."""
        ours = [one.experiment_id for one in self.client.search_experiments(filter_string=f"name LIKE '{MODEL_PREFIX}%'")]
        found = self.client.search_runs(ours, filter_string=f"tags.`treadle.run` = '{run_id}'", max_results=1) if ours else []
        return str(found[0].info.run_id) if found else None

    def _experiment(self, agent: str) -> str:
        name = f"{MODEL_PREFIX}{agent}"
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = f"{self._artifacts.root}/mlflow/{agent}"
        try:
            return str(self.client.create_experiment(name, artifact_location=location))
        except Exception:  # another process made it meanwhile; if not, the look-up below says what is wrong
            return str(self.client.get_experiment_by_name(name).experiment_id)

    def tell_again(self) -> int:
        """Tell MLflow everything that waits; returns of how many runs. What waits of a run that was deleted in MLflow is let go. Raises
        Unavailable with MLflow's words when it still does not take something; what it took does not wait any more."""
        self._silent_until = 0.0
        self._take_in()
        with self._catalog.reading() as work:
            waiting = {run: untold.of_run(work, run) for run in untold.runs(work)}
        told = 0
        for run, entries in waiting.items():
            try:
                told_as = self._known_as(run)
                for entry in entries:
                    told_as = self._say(told_as, entry.body)
                self._opened[run] = told_as
                told += 1
            except Exception as error:
                if not self._deleted(run):
                    raise Unavailable(
                        f"MLflow at {self._settings.mlflow_url} does not take what waits of run {run.removeprefix(WAITING)}: "
                        f"{one_sentence(error)}; start it (treadle up), then treadle releases reconcile."
                    ) from None
                log.warning("MLflow's run %s was deleted there; what waited for it is let go.", run)
            with self._catalog.transaction() as work:
                for entry in entries:
                    untold.told(work, entry)
        return told

    def _deleted(self, run: str) -> bool:
        """Whether MLflow answers that it has no such run, or has it among the deleted ones."""
        if run.startswith(WAITING):  # never opened, so never deleted
            return False
        try:
            return bool(self.client.get_run(run).info.lifecycle_stage == "deleted")
        except Exception as error:  # MLflow's own class is not imported for this
            return getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"

    def _known_as(self, run: str) -> str:
        """MLflow's id of a run; the stand-in itself where MLflow does not know it yet."""
        if not run.startswith(WAITING):
            return run
        return self._opened.get(run) or self.run_of(run.removeprefix(WAITING)) or run

    def _take_in(self) -> None:
        """Into the catalog with what lies beside it."""
        if not self._aside.exists():
            return
        lines = self._aside.read_text(encoding="utf-8").splitlines()
        with self._catalog.transaction() as work:
            for line in lines:
                run, entry = json.loads(line)
                untold.add(work, run, entry)
        self._aside.unlink()


def _milliseconds() -> int:
    return int(time.time() * 1000)
