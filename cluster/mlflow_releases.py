"""Releases as MLflow shows them: a registered model per agent, a version per release with tags (semver, digests, parent), the aliases, and
on the training's run the release's description and the picture of its lineage."""

import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Sequence

from cluster.catalog import releases
from cluster.domain.datasets import Dataset
from cluster.domain.releases import CHALLENGER, CHAMPION, Release
from cluster.domain.verdicts import Verdict
from cluster.lineage_graph import lineage_graph
from cluster.mlflow_record import MODEL_PREFIX, MlflowRecord


class MlflowReleases(MlflowRecord):
    """What is said to MLflow of releases, always after the catalog has them."""

    def _mirror(self, write: Callable[[], object]) -> None:
        """What is in the catalog stays done whatever MLflow says; it is told again by ``reconcile``."""
        if time.monotonic() < self._silent_until:
            return
        try:
            write()
        except Exception as error:
            self._missed(error)

    def _mirror_release(self, release: Release) -> None:
        name = f"{MODEL_PREFIX}{release.agent}"
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name, description=release.card.description)
        run = self._run_of_release(release)
        if self._mlflow_version(release.agent, release.version) is None:
            tags = {
                "semver": release.version,
                "adapter_uri": release.adapter_uri,
                "release_digest": release.digest,
                "adapter_digest": release.adapter_digest,
                "base_digest": release.base_digest,
                "parent": release.parent or "",
                "datasets": ",".join(digest[:12] for digest in release.datasets),
                "reason": release.reason,
            }
            self.client.create_model_version(name, source=self._source(release), run_id=run, tags=tags)
        if run:
            self.client.log_text(run, release.model_dump_json(indent=1), "release.json")
            self.client.set_tag(run, "treadle.release", release.ref)
        self._mirror_aliases(release)

    def _run_of_release(self, release: Release) -> str | None:
        """MLflow's id of the training's run, where there is one that was not deleted there."""
        run = release.mlflow_run_id or (self.run_of(release.run_id) if release.run_id else None)
        return None if run is None or self._deleted(run) else run

    def _source(self, release: Release) -> str:
        """Where the version's files lie. A server takes no directory outside the run's own, and the bytes lie once: it gets a name of
        ours, and the place stands in the tags."""
        served = self._settings.mlflow_url.startswith("http")
        return (
            f"treadle:/adapter/{release.adapter_digest}" if served and "://" not in release.adapter_uri else release.adapter_uri
        )

    def _mlflow_version(self, agent: str, semver: str) -> str | None:
        for version in self.client.search_model_versions(f"name = '{MODEL_PREFIX}{agent}'"):
            if version.tags.get("semver") == semver:
                return str(version.version)
        return None

    def _mirror_aliases(self, release: Release) -> None:
        """The agent's aliases as they are now, and the release's lineage as a picture."""
        agent = release.agent
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
        self._mirror_lineage(release)

    def record_search(
        self, agent: str, run_id: str, params: dict[str, Any], inputs: Sequence[Dataset], metrics: dict[str, float], folder: Path
    ) -> None:
        """Note a finished search over recipes: its space, the winner's figures, and the files in ``folder``. It is done whether MLflow
        hears of it or not."""
        opened = self.start_run(agent, run_id, params, inputs)
        self.log_metrics(opened, metrics)
        for path in sorted(folder.iterdir()):
            self.log_file(opened, path)
        self.finish_run(opened)

    def record_verdict(self, release: Release, verdict: Verdict) -> None:
        """Put the gate's verdict beside the release in MLflow: a file in its run, tags on its version. The catalog has it in the run."""
        self._mirror(lambda: self._mirror_verdict(release, verdict))

    def _mirror_verdict(self, release: Release, verdict: Verdict) -> None:
        run = self._run_of_release(release)
        if run:
            self.log_json(run, verdict.model_dump(mode="json"), "gate.json")
        version = self._mlflow_version(release.agent, release.version)
        if version is not None:
            tags = {"gate": verdict.outcome, "gate.champion": verdict.champion, "gate.waived": verdict.waived or ""}
            tags["gate.reasons"] = " ".join(verdict.reasons)[:4000]
            for key, value in tags.items():
                self.client.set_model_version_tag(f"{MODEL_PREFIX}{release.agent}", version, key, value)

    def _mirror_retired(self, release: Release, reason: str) -> None:
        version = self._mlflow_version(release.agent, release.version)
        if version is not None:
            self.client.set_model_version_tag(f"{MODEL_PREFIX}{release.agent}", version, "retired", reason)

    def _mirror_lineage(self, release: Release) -> None:
        from cluster.lineage_picture import draw

        run = self._run_of_release(release)
        if run is None:
            return
        with self._catalog.reading() as work:
            graph = lineage_graph(work, release)
        with tempfile.TemporaryDirectory() as scratch:
            picture = Path(scratch) / "lineage.png"
            draw(graph, picture)
            self.client.log_artifact(run, str(picture))
