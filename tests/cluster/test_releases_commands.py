"""`treadle releases …` on a real catalog, without a cluster."""

import json

import pytest
from typer.testing import CliRunner

from cluster.catalog import datasets, questions
from cluster.cli import releases as commands
from cluster.cli.console import Home
from cluster.domain.agents import Agent
from cluster.domain.datasets import Dataset, SftRow, rows_digest
from cluster.domain.questions import Evaluation, QuestionResult
from cluster.errors import Conflict


@pytest.fixture
def here(home, tmp_path, empty_mlflow, monkeypatch):
    """Two releases, the second one champion, with rows and an evaluation each."""
    made = Home()
    monkeypatch.setattr(commands, "home", made)
    made.registry._silent_until = float("inf")  # MLflow has no part in this
    for number, (text, rank) in enumerate((("one", 8), ("two", 16))):
        folder = tmp_path / text
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_text(text)
        rows = [SftRow(question=f"How to {n}?", answer=f"Do {n}", source="s") for n in range(number + 1)]
        bundle = made.artifacts.write_rows(rows)
        dataset = Dataset(digest=rows_digest(rows), name="rows", kind="sft", rows=len(rows), uri=bundle.uri)
        with made.catalog.transaction() as work:
            datasets.add(work, dataset)
        release = made.registry.register(
            Agent(name="linux"), folder, base_model="starter", base_digest="b", inputs=(dataset.digest,),
            recipe={"lora": {"rank": rank}}, metrics={"train_loss": 1.0 - number / 2}, run_id=f"run_{number}",
        )  # fmt: skip
        made.registry.promote(release.ref)
        results = (QuestionResult(question_id="1", answer=text, passed=number == 0),)
        with made.catalog.transaction() as work:
            questions.record(work, Evaluation(release=release.ref, question_set="s", set_digest="d", results=results))
    return made


def run(*words):
    done = CliRunner().invoke(commands.app, [*words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_the_diff_shows_rows_recipe_metrics_and_answers(here, capsys):
    found = json.loads(run("diff", "linux@0.1.0", "linux@0.1.1", "--json"))
    assert found["recipe"] == {"lora.rank": [8, 16]}
    assert found["metrics"] == {"train_loss": [1.0, 0.5]}
    assert (found["rows_added"], found["rows_removed"]) == (1, 0)
    assert "How to 1?" in found["examples_added"][0]
    (change,) = found["answers"]["s"]
    assert (change["before"], change["after"], change["passed_before"], change["passed_after"]) == ("one", "two", True, False)
    commands.show_diff(here.registry.compare("linux@0.1.0", "linux@0.1.1"))
    said = capsys.readouterr().out
    for words in (
        "recipe.lora.rank",
        "adapter_digest",
        "+ How to 1? → Do 1",
        "1 answers changed, 0 better, 1 worse",
        "+ two (wrong)",
    ):
        assert words in said


def test_a_retired_release_is_listed_only_with_all(here):
    run("rollback", "linux")
    run("retire", "linux@0.1.1", "--reason", "too slow")
    assert [one["version"] for one in json.loads(run("list", "--json"))] == ["0.1.0"]
    both = {one["version"]: one["retired"] for one in json.loads(run("list", "linux", "--all", "--json"))}
    assert both == {"0.1.0": None, "0.1.1": "too slow"}
    assert json.loads(run("show", "linux@0.1.1", "--json"))["retired"] == "too slow"
    with pytest.raises(Conflict, match=r"'linux@0\.1\.1' is retired"):
        run("promote", "linux@0.1.1")


def test_the_lineage_is_a_tree_json_or_a_picture(here, tmp_path):
    graph = json.loads(run("show", "linux", "--lineage", "--json"))
    assert graph["root"] == "linux@0.1.1"
    assert {"dataset", "base", "recipe", "evaluation", "alias"} <= {node["kind"] for node in graph["nodes"]}
    run("show", "linux", "--lineage", "--picture", str(tmp_path / "made.svg"))
    assert "Lineage of linux@0.1.1" in (tmp_path / "made.svg").read_text()
    assert not list(tmp_path.glob(".made*"))


def test_reconcile_says_what_it_did(here, empty_mlflow):
    import shutil

    shutil.copyfile(empty_mlflow, here.settings.home / "mlflow.db")
    done = json.loads(run("reconcile", "--json"))
    assert done == {"runs": 0, "releases": 2, "registered": []}
