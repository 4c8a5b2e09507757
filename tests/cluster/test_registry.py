"""The registry on a real MLflow store (SQLite)."""

import hashlib
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.artifacts import file_digest
from cluster.catalog import Catalog, agents, releases
from cluster.domain.agents import Agent
from cluster.domain.datasets import Dataset, SftRow, rows_digest
from cluster.domain.releases import CHAMPION
from cluster.errors import Conflict, IntegrityError, NotFound
from cluster.registry import Registry
from cluster.settings import ROOT


@pytest.fixture
def registry(settings, catalog, artifacts, empty_mlflow):
    shutil.copyfile(empty_mlflow, settings.home / "mlflow.db")
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
    assert [file.path for file in client.list_artifacts(run)] == ["lineage.png", "release.json"]
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
    assert registry.reconcile().releases == 1
    (version,) = registry.client.search_model_versions("name = 'treadle.linux'")
    assert version.tags["semver"] == "0.1.0"


def test_what_waits_of_a_run_that_was_deleted_in_mlflow_holds_nothing_else_up(registry, settings, catalog, artifacts):
    deleted, kept = registry.start_run("linux", "run_1", {}), registry.start_run("linux", "run_2", {})
    silent = Registry(settings.model_copy(update={"mlflow_url": "http://127.0.0.1:1"}), catalog, artifacts)
    for run in (deleted, "0" * 32, kept):  # the second was removed for good
        silent.log_curves(run, [(1, {"loss": 2.0})])
    registry.client.delete_run(deleted)
    assert registry.reconcile().runs == 1
    assert [point.value for point in registry.client.get_metric_history(kept, "loss")] == [2.0]
    assert registry.reconcile().runs == 0


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
    assert all('"question":"q' in row for row in found.examples_added)
    assert len(registry.compare(two.ref, one.ref, examples=1).examples_removed) == 1


def test_the_diff_has_the_answers_question_by_question(registry, tmp_path, catalog):
    from cluster.catalog import questions
    from cluster.domain.questions import Evaluation, Question, QuestionResult, QuestionSet

    one = register(registry, tmp_path, "one", recipe={"lora": {"rank": 8}})
    two = register(registry, tmp_path, "two", parent=one.ref, recipe={"lora": {"rank": 16}})
    both = (Question(id="1", text="Why?", expected="a"), Question(id="2", text="x", expected="b"))
    asked = QuestionSet(name="s", agent="linux", questions=both)

    def evaluation(ref, answers):
        results = tuple(QuestionResult(question_id=id_, answer=said, passed=good) for id_, said, good in answers)
        return Evaluation(release=ref, question_set="s", set_digest=asked.digest, results=results)

    with catalog.transaction() as work:
        questions.save_set(work, asked)
        questions.record(work, evaluation(one.ref, [("1", "no", False), ("2", "b", True)]))
        questions.record(work, evaluation(two.ref, [("1", "a", True), ("2", "b", True)]))
    found = registry.compare(one.ref, two.ref)
    (change,) = found.answers["s"]
    assert (change.question, change.before, change.after, change.passed_before, change.passed_after) == (
        "Why?",
        "no",
        "a",
        False,
        True,
    )
    assert found.recipe == {"lora.rank": (8, 16)}
    assert found.made_of["adapter_digest"] == (one.adapter_digest, two.adapter_digest)


def test_going_back_twice_goes_two_versions_back(registry, tmp_path, catalog):
    made = [register(registry, tmp_path, text) for text in ("one", "two", "three")]
    for one in made:
        registry.promote(one.ref)
    assert registry.rollback("linux").ref == made[1].ref
    assert registry.rollback("linux").ref == made[0].ref
    with pytest.raises(Conflict, match="nothing to roll back to"):
        registry.rollback("linux")
    registry.promote(made[2].ref)
    assert registry.rollback("linux").ref == made[0].ref, "what was rolled back is not gone back to"


def test_a_promotion_decided_against_another_champion_is_refused(registry, tmp_path, catalog):
    one, two, three = (register(registry, tmp_path, text) for text in ("one", "two", "three"))
    registry.promote(one.ref, expected=None)
    with pytest.raises(Conflict, match=r"linux@0\.1\.1 was judged against no release, .* is linux@0\.1\.0"):
        registry.promote(two.ref, expected="linux@base")
    registry.promote(two.ref, expected=one.ref)
    with pytest.raises(Conflict, match=r"judged against linux@0\.1\.0"):
        registry.promote(three.ref, expected="0.1.0")
    with catalog.reading() as work:
        assert [move.after for move in releases.moves(work, "linux")] == ["0.1.0", "0.1.1"]


PROMOTES = """
import sys
from cluster.artifacts import Artifacts
from cluster.catalog import Catalog
from cluster.errors import Conflict
from cluster.registry import Registry
from cluster.settings import load_settings
url, mine = sys.argv[1], sys.argv[2:]
settings = load_settings().model_copy(update={"mlflow_url": "none://"})
registry = Registry(settings, Catalog(url), Artifacts(settings.artifacts_url, settings.home / "cache"))
registry._silent_until = float("inf")
champion, won, lost = None, 0, 0
print("ready", flush=True)
sys.stdin.readline()
while won + lost < 24 or (not lost and won < 300):
    for version in mine:
        registry.promote(f"linux@{version}", f"after {won + lost}")
        try:
            registry.promote(f"linux@{mine[0]}", "only against my own", expected=version)
            won += 1
        except Conflict:
            lost += 1
print(won, lost)
"""


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_two_processes_that_promote_at_once_take_turns(settings, artifacts, tmp_path, database, request):
    url = settings.catalog_url if database == "sqlite" else request.getfixturevalue("postgresql")
    catalog = Catalog(url).prepare()
    registry = Registry(settings.model_copy(update={"mlflow_url": "none://"}), catalog, artifacts)
    registry._silent_until = float("inf")
    for text in ("one", "two", "three", "four"):
        register(registry, tmp_path, text)
    pipes = {"text": True, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    running = [
        subprocess.Popen([sys.executable, "-c", PROMOTES, url, *versions], cwd=ROOT, env=os.environ, **pipes)
        for versions in (("0.1.0", "0.1.1"), ("0.1.2", "0.1.3"))
    ]
    for one in running:
        assert one.stdout.readline() == "ready\n"
    for one in running:
        one.stdin.write("go\n")
        one.stdin.flush()
    said = [one.communicate(timeout=120)[0].split() for one in running]
    assert [one.returncode for one in running] == [0, 0]
    with catalog.reading() as work:
        moves = releases.moves(work, "linux")
        assert moves[-1].after == releases.alias(work, "linux", CHAMPION)
    assert moves[0].before is None
    assert all(later.before == earlier.after for earlier, later in itertools.pairwise(moves))
    lost = sum(int(one[1]) for one in said)
    assert lost, "the two never met: the test says nothing"
    assert all(int(won) + int(lost) >= 24 for won, lost in said)
    decided = [(move.before, move.after) for move in moves if move.reason == "only against my own"]
    assert set(decided) <= {("0.1.1", "0.1.0"), ("0.1.3", "0.1.2")}, (
        "moved from the champion it was decided against, and from no other"
    )
    catalog.close()


def test_a_retired_release_is_neither_promoted_nor_gone_back_to(registry, tmp_path, catalog):
    one, two, three = (register(registry, tmp_path, text) for text in ("one", "two", "three"))
    for made in (one, two):
        registry.promote(made.ref)
    with pytest.raises(Conflict, match=r"is the champion of 'linux'; promote or register another"):
        registry.retire(two.ref, "too slow")
    with pytest.raises(Conflict, match=r"is the challenger of 'linux'"):
        registry.retire(three.ref, "too slow")
    registry.promote(three.ref)
    registry.retire(two.ref, "too slow")
    with pytest.raises(Conflict, match=r"retired already: too slow"):
        registry.retire(two.ref, "again")
    with pytest.raises(Conflict, match=r"'linux@0\.1\.1' is retired \(too slow\)"):
        registry.promote(two.ref)
    assert registry.rollback("linux").ref == one.ref
    assert (artifacts_of(two) / "adapter_model.safetensors").read_text() == "two", "its files stay"
    version = next(
        one for one in registry.client.search_model_versions("name = 'treadle.linux'") if one.tags["semver"] == "0.1.1"
    )
    assert version.tags["retired"] == "too slow"


def artifacts_of(release):
    return Path(release.adapter_uri)


def test_one_changed_byte_stops_promotion_and_rollback(registry, tmp_path, catalog):
    one, two = (register(registry, tmp_path, text) for text in ("one", "two"))
    registry.promote(one.ref)
    registry.promote(two.ref)
    file = artifacts_of(one) / "adapter_model.safetensors"
    file.write_text("onE")
    says = rf"'linux@0\.1\.0' is not taken back.* digest {one.adapter_digest[:12]}: adapter_model.safetensors .* has changed"
    with pytest.raises(IntegrityError, match=says):
        registry.rollback("linux")
    manifest = artifacts_of(one) / "manifest.json"
    manifest.write_text(manifest.read_text().replace(hashlib.sha256(b"one").hexdigest(), file_digest(file)))
    with pytest.raises(IntegrityError, match=r"is not promoted.*manifest.json .* has changed"):
        registry.promote(one.ref)
    file.unlink()
    manifest.unlink()
    with pytest.raises(NotFound, match=r"is not promoted.*no manifest.json"):
        registry.promote(one.ref)
    with catalog.reading() as work:
        assert releases.alias(work, "linux", CHAMPION) == two.version


def test_a_card_that_changed_is_released_without_training(registry, tmp_path, catalog):
    one = register(registry, tmp_path, "one", metrics={"loss": 1.0})
    registry.promote(one.ref)
    with catalog.transaction() as work:
        agents.save(work, Agent(name="linux"))
    with pytest.raises(Conflict, match="nothing changed"):
        registry.renew("linux")
    with catalog.transaction() as work:
        agents.save(work, Agent(name="linux", top_k=5))
    made = registry.renew("linux")
    assert (made.version, made.adapter_digest, made.card.top_k, made.parent) == ("0.1.1", one.adapter_digest, 5, one.ref)


def test_a_step_that_a_recipe_asks_for_says_so(registry, tmp_path):
    one = register(registry, tmp_path, "one")
    two = register(registry, tmp_path, "two", parent=one.ref, bump="minor")
    assert two.version == "0.2.0"
    assert "minor as the recipe says, whether it is better is for the gate" in two.reason
