"""An evaluation that was cut short goes on where it was, and asks anew what may have changed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from cluster.catalog import questions
from cluster.domain.base import new_id
from cluster.domain.questions import Question, QuestionResult, QuestionSet
from cluster.domain.recipes import EvaluateRecipe
from cluster.settings import ROOT
from train_jobs import asking, evaluate


def _numbered(count: int) -> QuestionSet:
    asked = [Question(id=str(number), text=f"q {number}", expected="e", slices=("s",)) for number in range(count)]
    return QuestionSet(name=new_id("set").replace("_", "-"), questions=tuple(asked))


class Killed(BaseException):
    """Stands for a process that ends at this point."""


@pytest.mark.parametrize("same_run", [True, False])
def test_an_evaluation_that_was_cut_short_asks_only_what_is_missing(job, open_job, chat_server, same_run) -> None:
    asked, recipe = _numbered(12), EvaluateRecipe(release="a@0.1.0", question_sets=("s",), concurrency=1)
    address = chat_server.endpoint.removesuffix("/v1")
    chat_server.answer = lambda request: "e"

    def die(count: int) -> None:
        if count == 7:
            raise Killed

    with pytest.raises(BaseExceptionGroup) as caught:
        evaluate.measure_at(address, job, asked, recipe, die)
    assert caught.group_contains(Killed)
    before = len(chat_server.requests)
    (journal,) = (job.settings.home / "work" / "evaluate").glob("*.jsonl")
    with journal.open("ab") as file:
        file.write(b'{"question_id": "11", "answer": "to')  # a line that the kill tore
    again = job if same_run else open_job("train_jobs.evaluate", recipe)
    counts: list[int] = []
    found = evaluate.measure_at(address, again, asked, recipe, counts.append)
    texts = [request["messages"][0]["content"] for request in chat_server.requests]
    assert before + len(counts) == len(texts)
    assert sorted(texts[before:]) == sorted(f"q {number}" for number in range(7, 12))
    assert counts == [8, 9, 10, 11, 12]
    assert [result.question_id for result in found.results] == [str(number) for number in range(12)]
    assert found.rate == 1.0
    assert not journal.exists()
    assert evaluate.measure_at(address, again, asked, recipe, counts.append) == found
    assert len(chat_server.requests) == len(texts), "what a run has recorded it does not ask again"


MEASURE = """
import sys
from cluster.catalog import Catalog, questions, runs
from cluster.domain.recipes import EvaluateRecipe
from cluster.job_run import JobRun
from cluster.settings import ROOT
from cluster.settings import load_settings
from train_jobs import evaluate

settings = load_settings()
with Catalog(settings.catalog_url).reading() as work:
    run, asked = runs.get(work, sys.argv[1]), questions.get_set(work, sys.argv[2])
evaluate.measure_at(sys.argv[3], JobRun(settings, run), asked, EvaluateRecipe.model_validate(run.recipe), lambda count: None)
"""


def test_a_process_killed_outright_loses_what_was_under_way_at_most(job, open_job, chat_server) -> None:
    asked, at_once = _numbered(80), 4
    job = open_job("train_jobs.evaluate", EvaluateRecipe(release="a@0.1.0", question_sets=(asked.name,), concurrency=at_once))
    with job.catalog.transaction() as work:
        questions.save_set(work, asked)
    chat_server.answer, chat_server.slow = lambda request: "e", 0.03
    address = chat_server.endpoint.removesuffix("/v1")
    env = {**os.environ, **job.settings.env, "TREADLE_SETTINGS": str(job.settings.home / "treadle.yaml"), "PYTHONPATH": str(ROOT)}
    (job.settings.home / "treadle.yaml").write_text("profile: laptop\nprofiles: {laptop: {}}\n")
    process = subprocess.Popen([sys.executable, "-c", MEASURE, job.run.id, asked.name, address], env=env)
    while len(chat_server.requests) < 30 and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    while chat_server.at_once:
        time.sleep(0.005)
    before = {request["messages"][0]["content"] for request in chat_server.requests}
    found = evaluate.measure_at(address, job, asked, EvaluateRecipe.model_validate(job.run.recipe), lambda count: None)
    again = {request["messages"][0]["content"] for request in chat_server.requests[len(before) :]}
    assert len(before) < 80
    assert len(before & again) <= at_once
    assert (found.n, found.rate) == (80, 1.0)


def test_what_answers_with_a_card_that_may_change_is_asked_anew_by_another_run(job, open_job, chat_server) -> None:
    asked, recipe = _numbered(2), EvaluateRecipe(release="linux@base", question_sets=("s",), concurrency=1)
    chat_server.answer = lambda request: "e" if len(chat_server.requests) == 1 else (500, {"error": {"message": "ill"}})
    found = evaluate.measure_at(chat_server.endpoint.removesuffix("/v1"), job, asked, recipe, lambda count: None)
    assert (found.unanswered, found.rate, found.results[1].detail) == (1, 0.5, "not answered: ill")
    chat_server.answer = lambda request: "e"
    again = open_job("train_jobs.evaluate", recipe)
    assert evaluate.measure_at(chat_server.endpoint.removesuffix("/v1"), again, asked, recipe, lambda count: None).rate == 1.0
    assert len(chat_server.requests) == 1 + asking.ATTEMPTS + 2


def test_an_evaluation_with_unanswered_questions_is_not_taken_for_known(job, chat_server) -> None:
    asked, recipe = _numbered(2), EvaluateRecipe(release="a@3.0.0", question_sets=("s",), concurrency=1)
    address = chat_server.endpoint.removesuffix("/v1")
    chat_server.answer = lambda request: "e" if len(chat_server.requests) == 1 else (500, {"error": {"message": "ill"}})
    evaluate.measure_at(address, job, asked, recipe, lambda count: None)
    assert evaluate.known(job, "a@3.0.0", asked, True) is None
    other = _numbered(2)
    chat_server.answer = lambda request: "e"
    found = evaluate.measure_at(address, job, other, recipe, lambda count: None)
    assert evaluate.known(job, "a@3.0.0", other, True) == found
    assert evaluate.known(job, "a@3.0.0", other, False) is None


def test_two_at_once_keep_their_answers_apart(tmp_path) -> None:
    from train_jobs.answers_journal import AnswersJournal

    one, two = AnswersJournal(tmp_path, "key", "run_1"), AnswersJournal(tmp_path, "key", "run_2")
    one.add(QuestionResult(question_id="1", answer="a", passed=True))
    two.add(QuestionResult(question_id="1", answer="b", passed=False))
    one.close(done=False)
    two.close(done=True)
    again = AnswersJournal(tmp_path, "key", "run_3")
    assert again.results["1"].answer == "a"
    again.close(done=True)
    assert list(tmp_path.iterdir()) == []
