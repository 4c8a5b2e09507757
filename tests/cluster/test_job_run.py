import json

import pytest

from cluster import job_run
from cluster.catalog import runs
from cluster.domain.base import Frozen
from cluster.domain.runs import MAX_ATTEMPTS, Run
from cluster.errors import InvalidInput


class Recipe(Frozen):
    number: int


def start(work, *argv):
    return job_run.main("train_jobs.sft", Recipe, work, list(argv))


@pytest.fixture
def run(catalog):
    made = Run(job="train_jobs.sft", recipe={"number": 3})
    with catalog.transaction() as work:
        runs.save(work, made)
    return made


@pytest.fixture
def after(catalog, run):
    def look():
        with catalog.reading() as work:
            return runs.get(work, run.id)

    return look


def test_a_run_ends_with_its_result(run, after, capsys):
    def work(job, recipe):
        job.progress(0.5, "half", loss=1.5)
        return {"twice": 2 * recipe.number}

    assert start(work, "--run", run.id) == 0
    done = after()
    assert (done.state, done.result, done.attempts, done.metrics) == ("succeeded", {"twice": 6}, 1, {"loss": 1.5})
    assert json.loads(capsys.readouterr().out)["twice"] == 6


def test_a_known_error_fails_at_once_with_its_sentence(run, after, capsys):
    def work(job, recipe):
        raise InvalidInput("The dataset 'x' has no rows; collect some first.")

    assert start(work, "--run", run.id) == 1
    assert (after().state, after().attempts, after().error) == ("failed", 1, "The dataset 'x' has no rows; collect some first.")
    assert "Traceback" not in capsys.readouterr().err


def test_an_unknown_error_is_tried_three_times(run, after, monkeypatch):
    monkeypatch.setattr(job_run, "_BACKOFF_SECONDS", 0.0)
    calls = []

    def work(job, recipe):
        calls.append(job.run.attempts)
        raise ZeroDivisionError("oops")

    assert start(work, "--run", run.id) == 1
    assert calls == list(range(1, MAX_ATTEMPTS + 1))
    assert after().error == "ZeroDivisionError: oops"


def test_an_unknown_error_that_passes_is_forgiven(run, after, monkeypatch):
    monkeypatch.setattr(job_run, "_BACKOFF_SECONDS", 0.0)

    def work(job, recipe):
        if job.run.attempts == 1:
            raise OSError("flaky")
        return {}

    assert start(work, "--run", run.id) == 0
    assert (after().state, after().attempts) == ("succeeded", 2)


def test_a_cancelled_run_stays_cancelled(run, after, catalog):
    def work(job, recipe):
        with catalog.transaction() as writing:
            runs.change(writing, run.id, state="cancelled")
        assert job.cancelled()
        return {}

    start(work, "--run", run.id)
    assert after().state == "cancelled"
    assert start(work, "--run", run.id) == 1  # and is not run again


def test_a_recipe_file_records_a_run_of_its_own(catalog, tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("number: 4\n")
    assert start(lambda job, recipe: {"n": recipe.number}, "--recipe", str(file)) == 0
    with catalog.reading() as work:
        (made,) = runs.recent(work)
    assert (made.state, made.recipe, made.result) == ("succeeded", {"number": 4}, {"n": 4})


@pytest.mark.parametrize(
    ("text", "says"),
    [("numbr: 4", "unknown key 'numbr'; did you mean 'number'"), ("number: x", "'number' is 'x'"), (None, "cannot be read")],
)
def test_a_wrong_recipe_is_one_sentence_and_exit_2(home, tmp_path, capsys, text, says):
    file = tmp_path / "r.yaml"
    if text:
        file.write_text(text)
    assert start(lambda job, recipe: {}, "--recipe", str(file)) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in said
    assert str(file) in said


def test_an_unknown_run_is_named(home, capsys):
    assert start(lambda job, recipe: {}, "--run", "run_none") == 2
    assert "There is no run 'run_none'" in capsys.readouterr().err
