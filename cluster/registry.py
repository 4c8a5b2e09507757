"""MLflow's only home: a run for each training, a registered model per agent, a version per release.

The catalog's record of a release is the truth that serving follows; MLflow holds the same release for people to browse, with parameters,
curves, dataset inputs, tags (semver, digests, parent) and aliases. Registration and promotion write the catalog first, in one
transaction, then MLflow; ``reconcile`` brings MLflow up to date when it was unreachable in between.
"""

import json
import logging
import time
from pathlib import Path
from typing import Any, Callable, Sequence

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog, Work, corpora, datasets, questions, releases
from cluster.domain.agents import Agent
from cluster.domain.datasets import Dataset
from cluster.domain.releases import CHALLENGER, CHAMPION, Release, ReleaseDiff, diff, next_version
from cluster.domain.versions import Bump, Version
from cluster.errors import Conflict
from cluster.settings import Settings

log = logging.getLogger(__name__)
MODEL_PREFIX = "treadle."


class Registry:
    """Releases, lineage, aliases and diffs. ``catalog`` and ``artifacts`` are this process's own."""

    def __init__(self, settings: Settings, catalog: Catalog, artifacts: Artifacts) -> None:
        self._settings, self._catalog, self._artifacts = settings, catalog, artifacts
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The MlflowClient (imported late: it costs seconds)."""
        if self._client is None:
            from mlflow import MlflowClient

            logging.getLogger("mlflow").setLevel(logging.WARNING)
            logging.getLogger("alembic").setLevel(logging.WARNING)
            self._client = MlflowClient(tracking_uri=self._settings.mlflow_url, registry_uri=self._settings.mlflow_url)
        return self._client

    # Runs

    def start_run(
        self, agent: str, run_id: str, params: dict[str, Any], inputs: Sequence[Dataset] = (), parent: str | None = None
    ) -> str:
        """Open the MLflow run of a training; returns its id. ``params`` is the recipe (nested keys become dotted).

        A run that was opened before under the same ``run_id`` (a resumed training) is continued, not opened twice.
        """
        from mlflow.entities import Dataset as MlflowDataset
        from mlflow.entities import DatasetInput, InputTag, Param

        experiment = self._experiment(agent)
        known = self.client.search_runs([experiment], filter_string=f"tags.`treadle.run` = '{run_id}'", max_results=1)
        if known:
            self.client.set_terminated(known[0].info.run_id, status="RUNNING")
            return str(known[0].info.run_id)
        tags = {"treadle.run": run_id, "treadle.agent": agent, "treadle.parent": parent or "", "mlflow.source.type": "JOB"}
        opened = self.client.create_run(experiment, run_name=f"{agent}-{run_id[-6:]}", tags=tags)
        mlflow_id = str(opened.info.run_id)
        flat = _flat(params)
        self.client.log_batch(mlflow_id, params=[Param(key, str(value)[:6000]) for key, value in flat.items()])
        logged = [
            DatasetInput(
                MlflowDataset(
                    name=one.name,
                    digest=one.digest[:36],
                    source_type="treadle",
                    source=json.dumps({"uri": one.uri}),
                    profile=json.dumps({"num_rows": one.rows, "kind": one.kind}),
                ),
                [InputTag("mlflow.data.context", "training")],
            )
            for one in inputs
        ]
        if logged:
            self.client.log_inputs(mlflow_id, logged)
        return mlflow_id

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

    def log_metrics(self, mlflow_run_id: str, metrics: dict[str, float], step: int = 0) -> None:
        """Add points to the run's curves."""
        self.log_curves(mlflow_run_id, [(step, metrics)])

    def log_curves(self, mlflow_run_id: str, points: Sequence[tuple[int, dict[str, float]]]) -> None:
        """Add many ``(step, metrics)`` points in one write."""
        from mlflow.entities import Metric

        moment = int(time.time() * 1000)
        flat = [Metric(name, float(value), moment, step) for step, metrics in points for name, value in metrics.items()]
        for start in range(0, len(flat), 1000):
            self.client.log_batch(mlflow_run_id, metrics=flat[start : start + 1000])

    def log_file(self, mlflow_run_id: str, path: Path, folder: str | None = None) -> None:
        """Attach a file to the run."""
        self.client.log_artifact(mlflow_run_id, str(path), folder)

    def log_json(self, mlflow_run_id: str, value: Any, name: str) -> None:
        """Attach a JSON value to the run as a file."""
        self.client.log_text(mlflow_run_id, json.dumps(value, indent=1, default=str), name)

    def finish_run(self, mlflow_run_id: str, failed: bool = False) -> None:
        """Close the run."""
        self.client.set_terminated(mlflow_run_id, status="FAILED" if failed else "FINISHED")

    def record_search(
        self, agent: str, run_id: str, params: dict[str, Any], inputs: Sequence[Dataset], metrics: dict[str, float], folder: Path
    ) -> None:
        """Note a finished search over recipes: its space, the winner's figures, and the files in ``folder``. It is done whether MLflow
        hears of it or not."""

        def write() -> None:
            opened = self.start_run(agent, run_id, params, inputs)
            self.log_metrics(opened, metrics)
            for path in sorted(folder.iterdir()):
                self.log_file(opened, path)
            self.finish_run(opened)

        self._mirror(write)

    # Releases

    def register(
        self,
        card: Agent,
        adapter: Path,
        *,
        base_model: str,
        base_digest: str,
        inputs: Sequence[str] = (),
        indexes: dict[str, int] | None = None,
        recipe: dict[str, Any] | None = None,
        parent: str | None = None,
        run_id: str | None = None,
        mlflow_run_id: str | None = None,
        metrics: dict[str, float] | None = None,
        bump: Bump | None = None,
    ) -> Release:
        """Make a release of the files in ``adapter`` and record it, in the catalog and in MLflow.

        ``inputs`` are dataset digests, added to the parent's. ``indexes`` defaults to the newest version of each of the card's corpora.
        ``bump`` sets the weight of the version step; without it the rules of
        ``cluster.domain.releases.next_version`` do. Raises Conflict when nothing changed since the parent.
        """
        bundle = self._artifacts.publish("adapter", adapter, {"agent": card.name, "base": base_digest})
        with self._catalog.transaction() as work:
            before = releases.get(work, parent) if parent else None
            family = releases.of_agent(work, card.name)
            taken = [release.version for release in family]
            pinned = indexes if indexes is not None else _newest_indexes(work, card)
            held = tuple(dict.fromkeys([*(before.datasets if before else ()), *inputs]))
            earned = next_version(
                before or (family[0] if family else None),
                taken,
                base_digest=base_digest,
                adapter_digest=bundle.digest,
                datasets=held,
                card=card,
                indexes=pinned,
            )
            if earned.version is None:
                raise Conflict(f"No release of '{card.name}' was made: {earned.reason}.")
            version = earned.version
            if bump is not None and taken:
                start = Version.parse(before.version if before else max(taken, key=Version.parse)).bump(bump)
                while str(start) in taken:
                    start = start.bump(bump)
                version = str(start)
            release = Release(
                agent=card.name,
                version=version,
                card=card,
                adapter_uri=bundle.uri,
                adapter_digest=bundle.digest,
                base_model=base_model,
                base_digest=base_digest,
                indexes=pinned,
                datasets=held,
                recipe=recipe or {},
                parent=before.ref if before else None,
                run_id=run_id,
                mlflow_run_id=mlflow_run_id,
                metrics=metrics or {},
                reason=earned.reason,
            )
            releases.add(work, release)
            releases.move_alias(work, release.agent, CHALLENGER, release.version, f"registered: {earned.reason}")
        self._mirror(lambda: self._mirror_release(release))
        return release

    def promote(self, ref: str, reason: str = "promoted by hand") -> Release:
        """Make a release its agent's champion; the gateway follows within a second."""
        with self._catalog.transaction() as work:
            release = releases.get(work, ref)
            releases.move_alias(work, release.agent, CHAMPION, release.version, reason)
            if releases.alias(work, release.agent, CHALLENGER) == release.version:
                releases.move_alias(work, release.agent, CHALLENGER, None, reason)
        self._mirror(lambda: self._mirror_aliases(release.agent))
        return release

    def rollback(self, agent: str, reason: str = "rolled back") -> Release:
        """Give the agent back the champion it had before. Raises Conflict when there was none."""
        with self._catalog.transaction() as work:
            release = releases.get(work, f"{agent}@{releases.previous(work, agent)}")
            releases.move_alias(work, agent, CHAMPION, release.version, reason)
        self._mirror(lambda: self._mirror_aliases(agent))
        return release

    def compare(self, before: str, after: str) -> ReleaseDiff:
        """What changed between two releases: card, recipe, metrics, rows, and answers question by question."""
        with self._catalog.reading() as work:
            one, two = releases.get(work, before), releases.get(work, after)
            sources = {digest: datasets.get(work, digest) for digest in {*one.datasets, *two.datasets}}
            pairs = questions.pairs(work, one.ref, two.ref)
        held = [set(self._row_texts(sources[digest].uri for digest in release.datasets)) for release in (one, two)]
        rows = (len(held[1] - held[0]), len(held[0] - held[1]))
        return diff(one, two, rows=rows, evaluations=pairs)

    def _row_texts(self, uris: Any) -> list[str]:
        return [row.model_dump_json() for uri in uris for row in self._artifacts.read_rows(uri)]

    # MLflow's copy

    def _mirror(self, write: Callable[[], None]) -> None:
        """What is in the catalog stays done whatever MLflow says; it is told again by ``reconcile``."""
        try:
            write()
        except Exception as error:
            log.warning(
                "MLflow at %s was not told (%s); treadle releases reconcile tells it again.", self._settings.mlflow_url, error
            )

    def _mirror_release(self, release: Release) -> None:
        name = f"{MODEL_PREFIX}{release.agent}"
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name, description=release.card.description)
        if self._mlflow_version(release.agent, release.version) is None:
            tags = {
                "semver": release.version,
                "release_digest": release.digest,
                "adapter_digest": release.adapter_digest,
                "base_digest": release.base_digest,
                "parent": release.parent or "",
                "datasets": ",".join(digest[:12] for digest in release.datasets),
                "reason": release.reason,
            }
            self.client.create_model_version(name, source=release.adapter_uri, run_id=release.mlflow_run_id, tags=tags)
        if release.mlflow_run_id:
            self.client.log_text(release.mlflow_run_id, release.model_dump_json(indent=1), "release.json")
            self.client.set_tag(release.mlflow_run_id, "treadle.release", release.ref)
        self._mirror_aliases(release.agent)

    def _mlflow_version(self, agent: str, semver: str) -> str | None:
        for version in self.client.search_model_versions(f"name = '{MODEL_PREFIX}{agent}'"):
            if version.tags.get("semver") == semver:
                return str(version.version)
        return None

    def _mirror_aliases(self, agent: str) -> None:
        with self._catalog.reading() as work:
            wanted = {name: releases.alias(work, agent, name) for name in (CHAMPION, CHALLENGER)}
        model = f"{MODEL_PREFIX}{agent}"
        present = self.client.get_registered_model(model).aliases or {}
        for name, semver in wanted.items():
            version = self._mlflow_version(agent, semver) if semver else None
            if version is None and name in present:
                self.client.delete_registered_model_alias(model, name)
            elif version is not None and str(present.get(name)) != version:
                self.client.set_registered_model_alias(model, name, version)

    def reconcile(self) -> int:
        """Tell MLflow of every release it does not know; returns how many releases were looked at."""
        with self._catalog.reading() as work:
            known = releases.everything(work)
        for release in reversed(known):
            self._mirror_release(release)
        return len(known)


def _newest_indexes(work: Work, card: Agent) -> dict[str, int]:
    return {corpus: corpora.newest(work, corpus).version for corpus in card.corpora}


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        name = f"{prefix}{key}"
        flat.update(_flat(inner, f"{name}.") if isinstance(inner, dict) else {name: inner})
    return flat
