"""The registry on a real MLflow store (SQLite)."""

import pytest

from cluster.catalog import releases
from cluster.domain.agents import Agent
from cluster.domain.datasets import Dataset, SftRow, rows_digest
from cluster.domain.releases import CHAMPION
from cluster.errors import Conflict
from cluster.registry import Registry


@pytest.fixture
def registry(settings, catalog, artifacts):
    return Registry(settings, catalog, artifacts)


@pytest.fixture
def dataset(catalog, artifacts):
    from cluster.catalog import datasets

    rows = [SftRow(question="q", answer="a", source="s")]
    made = Dataset(digest=rows_digest(rows), name="rows", kind="sft", agent="linux", rows=1, uri=artifacts.write_rows(rows).uri)
    with catalog.transaction() as work:
        datasets.add(work, made)
    return made


def adapter(tmp_path, text):
    made = tmp_path / f"adapter-{text}"
    made.mkdir()
    (made / "adapter_model.safetensors").write_text(text)
    return made


def register(registry, tmp_path, text, **changes):
    given = {"base_model": "starter", "base_digest": "b"}
    return registry.register(Agent(name="linux"), adapter(tmp_path, text), **{**given, **changes})


def test_a_release_stands_in_mlflow_with_parameters_curves_inputs_tags_and_aliases(registry, tmp_path, dataset):
    run = registry.start_run("linux", "run_1", {"max_steps": 3, "lora": {"rank": 8}}, [dataset])
    assert registry.start_run("linux", "run_1", {}) == run  # a resumed training continues its run
    registry.log_curves(run, [(step, {"loss": 1.0 / step}) for step in (1, 2, 3)])
    made = register(registry, tmp_path, "one", inputs=(dataset.digest,), run_id="run_1", mlflow_run_id=run)
    registry.promote(made.ref)
    registry.finish_run(run)

    client = registry.client
    seen = client.get_run(run)
    assert seen.data.params == {"max_steps": "3", "lora.rank": "8"}
    assert [point.step for point in client.get_metric_history(run, "loss")] == [1, 2, 3]
    (entry,) = seen.inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("rows", dataset.digest[:36])
    assert [file.path for file in client.list_artifacts(run)] == ["release.json"]
    version = client.get_model_version_by_alias("treadle.linux", "champion")
    assert version.tags["semver"] == "0.1.0"
    assert version.tags["adapter_digest"] == made.adapter_digest
    assert version.source == made.adapter_uri
    assert version.run_id == run


def test_promotion_and_rollback_move_both_aliases(registry, tmp_path, catalog):
    one = register(registry, tmp_path, "one")
    registry.promote(one.ref)
    two = register(registry, tmp_path, "two", parent=one.ref, bump="minor")
    assert (two.version, two.parent) == ("0.2.0", "linux@0.1.0")
    registry.promote(two.ref)
    assert registry.rollback("linux").ref == one.ref
    with catalog.reading() as work:
        assert releases.alias(work, "linux", CHAMPION) == "0.1.0"
    assert registry.client.get_model_version_by_alias("treadle.linux", "champion").tags["semver"] == "0.1.0"


def test_nothing_changed_is_no_release(registry, tmp_path, catalog):
    one = register(registry, tmp_path, "one")
    with pytest.raises(Conflict, match=r"nothing changed since linux@0\.1\.0"):
        registry.register(Agent(name="linux"), tmp_path / "adapter-one", base_model="starter", base_digest="b", parent=one.ref)
    with catalog.reading() as work:
        assert len(releases.everything(work)) == 1


def test_mlflow_unreachable_loses_nothing_and_is_told_later(registry, settings, catalog, artifacts, tmp_path):
    broken = Registry(settings.model_copy(update={"mlflow_url": f"sqlite:///{tmp_path}/none/there.db"}), catalog, artifacts)
    made = register(broken, tmp_path, "one")
    with catalog.reading() as work:
        assert releases.get(work, made.ref) == made
    assert registry.reconcile() == 1
    (version,) = registry.client.search_model_versions("name = 'treadle.linux'")
    assert version.tags["semver"] == "0.1.0"


def test_the_diff_counts_rows(registry, tmp_path, catalog, artifacts, dataset):
    from cluster.catalog import datasets

    rows = [SftRow(question="q2", answer="a", source="s"), SftRow(question="q3", answer="a", source="s")]
    more = Dataset(digest=rows_digest(rows), name="more", kind="sft", rows=2, uri=artifacts.write_rows(rows).uri)
    with catalog.transaction() as work:
        datasets.add(work, more)
    one = register(registry, tmp_path, "one", inputs=(dataset.digest,), metrics={"loss": 1.0})
    two = register(registry, tmp_path, "two", inputs=(more.digest,), parent=one.ref, metrics={"loss": 0.5})
    found = registry.compare(one.ref, two.ref)
    assert (found.rows_added, found.rows_removed) == (2, 0)
    assert found.metrics == {"loss": (1.0, 0.5)}
    assert found.datasets_added == (more.digest,)
