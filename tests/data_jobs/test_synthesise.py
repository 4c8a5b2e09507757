"""Synthesis on a real index and catalog, with a real server that behaves and one that does not. No Ray."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.catalog import corpora, datasets
from cluster.domain.data_recipes import SynthesiseRecipe
from cluster.domain.datasets import SftRow
from cluster.domain.documents import CorpusVersion, Document, Passage
from cluster.embedding import Embedder
from cluster.errors import Conflict, InvalidInput, RecipeError, Unavailable
from cluster.job_run import JobRun
from cluster.model_roles import ModelRole
from cluster.passage_index import build
from cluster.settings import ROOT
from data_jobs.chunk import chunk
from data_jobs.synthesis_journal import Journal
from data_jobs.synthesise import asked_endpoint, synthesise

HOUSES = ("Oak House", "Fern Gardens", "Mason Works", "Tulip Ring", "Canal View", "Laurel Green")
TEXT = """# {name}

## Deposit

The deposit of {name} is {deposit} euros.

## Laundry

At {name} a wash in the laundry room costs {wash} euros and takes {minutes} minutes in all.
"""


@pytest.fixture
def corpus(job: JobRun, tmp_path: Path) -> list[Passage]:
    """Two passages about each of six houses, indexed and recorded as homes@1."""
    passages: list[Passage] = []
    for number, name in enumerate(HOUSES):
        text = TEXT.format(name=name, deposit=600 + 10 * number, wash=2 + number, minutes=40 + number)
        source = f"{name.split()[0].lower()}.md"
        document = Document(
            id=f"doc_{number}", corpus="homes", source=source, media_type="text/markdown", title=name, text=text, digest=""
        )
        passages += chunk(document, 100, 0)
    embedder = Embedder()
    vectors = embedder.embed([f"{passage.heading}\n{passage.text}" for passage in passages])
    index = job.artifacts.publish("index", build(passages, vectors, tmp_path / "index", embedder.name))
    version = CorpusVersion(
        corpus="homes", version=1, digest="d", index_uri=index.uri, documents=6, passages=len(passages), embedder=embedder.name
    )
    with job.catalog.transaction() as work:
        corpora.add(work, version)
    return passages


def recipe(server: Any = None, **changes: Any) -> SynthesiseRecipe:
    asked = {"endpoint": server.endpoint, "model": "m", "retries": 1, "concurrency": 2} if server else {}
    return SynthesiseRecipe(**{"corpus": "homes", "dataset": "made", "agent": "property", "min_chars": 20, **asked, **changes})


def shown(request: dict[str, Any]) -> str:
    """The passage in a request."""
    return re.search(r"<passage>\n(.*)\n</passage>", request["messages"][1]["content"], re.DOTALL)[1]  # type: ignore[index]


def good(request: dict[str, Any], **changes: str) -> str:
    """What a good refiner says: one pair out of the passage it was shown."""
    text = shown(request).strip().splitlines()[-1]
    asked = "What does the laundry of" if "laundry" in text else "How much is the deposit of"
    name = next(name for name in HOUSES if name in text)
    pair = {"question": f"{asked} {name} ask people to pay?", "answer": text, "span": text, **changes}
    return json.dumps({"pairs": [pair]})


def adds_up(report: dict[str, Any]) -> bool:
    passages, pairs = report["passages"], report["pairs"]
    return (
        passages["in"] == sum(passages["skipped"].values()) + passages["asked"] + passages["left"]
        and passages["asked"] == passages["answered"] + sum(passages["failed"].values())
        and pairs["in"] == pairs["kept"] + sum(pairs["dropped"].values())
    )


def test_templates_make_rows_that_name_their_passage(job: JobRun, corpus: list[Passage]) -> None:
    report = synthesise(job, recipe())
    assert report["mode"] == "templates"
    assert adds_up(report)
    assert (report["rows"], report["requests"], report["cost"]) == (report["pairs"]["kept"], 0, 0.0)
    with job.catalog.reading() as work:
        recorded = datasets.get(work, "made")
    rows = job.artifacts.read_rows(recorded.uri)
    deposit = next(row for row in rows if isinstance(row, SftRow) and row.question == "What is the deposit of Oak House?")
    assert (deposit.answer, deposit.source) == ("The deposit of Oak House is 600 euros.", "homes@1/oak.md#0")
    assert deposit.passages == (corpus[0].text,)
    assert recorded.sources["homes@1/oak.md"] >= 1
    assert sum(recorded.sources.values()) == len(rows)
    spans = [json.loads(line) for line in (job.artifacts.fetch(report["spans_uri"]) / "spans.jsonl").read_text().splitlines()]
    assert [one["question"] for one in spans] == [row.question for row in rows if isinstance(row, SftRow)]
    assert all(one["span"] in next(p.text for p in corpus if p.id == one["passage"]) for one in spans)
    again = synthesise(job, recipe())
    assert (again["digest"], again["changed"]) == (report["digest"], False)


def test_a_model_is_asked_once_for_each_passage_and_paid_for(job: JobRun, corpus: list[Passage], chat_server: Any) -> None:
    chat_server.answer = good
    prices = {"price_per_million_in": 2.0, "price_per_million_out": 10.0}
    report = synthesise(job, recipe(chat_server, cite=True, **prices))
    assert adds_up(report)
    assert report["passages"] == {"in": 12, "skipped": {}, "asked": 12, "answered": 12, "failed": {}, "left": 0}
    assert (report["rows"], report["mode"], report["model"]) == (12, "endpoint", "m")
    assert len(chat_server.requests) == report["requests"] == 12
    assert report["tokens"] == {"in": 1200, "out": 240}
    assert report["cost"] == pytest.approx(0.0048)
    assert chat_server.most_at_once <= 2
    with job.catalog.reading() as work:
        rows = job.artifacts.read_rows(datasets.get(work, "made").uri)
    assert all(isinstance(row, SftRow) and row.answer.endswith(" [1]") for row in rows)


def test_bad_answers_are_repaired_once_then_counted(job: JobRun, corpus: list[Passage], chat_server: Any) -> None:
    def answer(request: dict[str, Any]) -> Any:
        repairing = len(request["messages"]) > 2
        text = shown(request)
        if "Oak House" in text:  # cut, then whole
            return good(request) if repairing else good(request)[:-20]
        if "Fern Gardens" in text:
            return "I would rather not." if not repairing else '{"pairs": [{"question": 1}]}'
        if "Mason Works" in text:
            return good(request, span="The deposit of Mason Works is waived.")
        if "Tulip Ring" in text:
            return good(request, answer="Nobody pays 99999 euros there.")
        if "Canal View" in text:
            return (429, {}, {"Retry-After": "0"}) if times(request) == 1 else good(request)
        return (400, {"error": {"message": "too long"}})

    def times(request: dict[str, Any]) -> int:
        return chat_server.requests.count(request)

    chat_server.answer = answer
    report = synthesise(job, recipe(chat_server))
    assert adds_up(report)
    assert report["passages"]["failed"] == {"malformed": 2, "refused": 2}
    assert report["pairs"] == {"in": 8, "kept": 4, "dropped": {"span_not_found": 2, "unsupported": 2}}
    assert sorted({row["question"].split(" ask")[0][-9:] for row in report["examples"]}) == ["Oak House", "anal View"]
    assert report["dropped_examples"]["unsupported"][0]["answer"] == "Nobody pays 99999 euros there."
    repairs = [request for request in chat_server.requests if len(request["messages"]) == 4]
    assert len(repairs) == 4
    told = {
        request["messages"][3]["content"].split(". ")[0] for request in repairs
    }  # in no particular order: they are asked at once
    assert any(one.startswith("That could not be read: it is not JSON") for one in told)
    assert "That could not be read: there is no JSON object in it" in told


@pytest.mark.parametrize("seen", [1, 5, 11])
def test_a_broken_run_goes_on_without_asking_again(
    job: JobRun, corpus: list[Passage], chat_server: Any, monkeypatch: pytest.MonkeyPatch, seen: int
) -> None:
    chat_server.answer = good
    progress: list[str] = []

    def dying(fraction: float, message: str = "", **_: float) -> None:
        progress.append(message)
        if "passages/s" in message and message.startswith(f"{seen} of 12 "):
            raise RuntimeError("killed")

    monkeypatch.setattr(job, "progress", dying)
    with pytest.raises(RuntimeError, match="killed"):
        synthesise(job, recipe(chat_server))
    (journal,) = (job.settings.home / "work" / "synthesise").glob("*.jsonl")
    answered = len(journal.read_text().splitlines())
    assert seen <= answered < 12 or seen == 11
    with journal.open("a") as file:
        file.write('{"key": "torn')  # as a kill in the middle of a write leaves it
    monkeypatch.setattr(job, "progress", lambda *_, **__: None)
    before = len(chat_server.requests)
    report = synthesise(job, recipe(chat_server, max_tokens_total=100_000))
    assert (report["rows"], report["reused_answers"]) == (12, answered)
    assert len(chat_server.requests) - before == 12 - answered
    assert report["tokens"] == {"in": 1200, "out": 240}  # what the killed run paid counts
    assert re.match(r"\d+ of 12 passages, 0 pairs kept, [\d.]+ passages/s, about \d+ s left", progress[-1])


def test_a_killed_process_leaves_its_answers_to_the_next(
    job: JobRun, corpus: list[Passage], chat_server: Any, tmp_path: Path
) -> None:
    chat_server.answer = good
    chat_server.slow = 0.2
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(recipe(chat_server).model_dump(mode="json")))
    process = subprocess.Popen([sys.executable, "-m", "data_jobs.synthesise", "--recipe", str(file)], cwd=ROOT)
    while len(chat_server.requests) < 6 and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    before, chat_server.slow = len(chat_server.requests), 0.0
    report = synthesise(job, recipe(chat_server))
    assert report["rows"] == 12
    assert report["reused_answers"] >= before - 2  # but those that were under way
    assert len(chat_server.requests) - before == 12 - report["reused_answers"]


def test_a_server_that_went_away_ends_the_run_and_what_came_is_kept(job: JobRun, corpus: list[Passage], chat_server: Any) -> None:
    chat_server.answer = lambda request: good(request) if len(chat_server.requests) <= 4 else (404, {"error": "no model"})
    with pytest.raises(Unavailable, match=r"failed 5 times in a row; run again to go on from the 4 answers"):
        synthesise(job, recipe(chat_server, retries=0, concurrency=1))
    chat_server.answer = good
    report = synthesise(job, recipe(chat_server))
    assert (report["rows"], report["reused_answers"]) == (12, 4)


def test_the_budget_holds_and_says_so(job: JobRun, corpus: list[Passage], chat_server: Any) -> None:
    chat_server.answer = good
    report = synthesise(job, recipe(chat_server, max_tokens=100, max_tokens_total=1500))
    assert adds_up(report)
    assert report["stopped_by"] == "max_tokens_total"
    assert sum(report["tokens"].values()) <= 1500
    assert 0 < report["passages"]["answered"] == len(chat_server.requests) < 12


def test_a_dry_run_asks_and_writes_nothing(job: JobRun, corpus: list[Passage], chat_server: Any) -> None:
    report = synthesise(job, recipe(chat_server, dry_run=True, kinds=("qa", "reasoning"), price_per_million_out=10.0))
    assert (report["requests"], report["passages"]) == (24, {"in": 12, "skipped": {}})
    assert report["estimated_tokens"]["in"] > 24 * 100
    assert report["estimated_cost"] == pytest.approx(report["estimated_tokens"]["out"] * 10 / 1e6)
    assert chat_server.requests == []
    with job.catalog.reading() as work:
        assert datasets.everything(work) == []
    assert synthesise(job, recipe(dry_run=True))["requests"] == 0


def test_the_judge_keeps_what_it_scores_well(job: JobRun, corpus: list[Passage], chat_server: Any) -> None:
    def answer(request: dict[str, Any]) -> str:
        if "Score 5" not in request["messages"][1]["content"]:
            return good(request)
        text = shown(request)
        return '{"score": 2, "why": "x"}' if "Oak House" in text else "five" if "Tulip Ring" in text else 'Sure: {"score": "5"}'

    chat_server.answer = answer
    roles = job.settings.models.model_copy(update={"judge": ModelRole(name="j", endpoint=chat_server.endpoint)})
    job.settings = job.settings.model_copy(update={"models": roles})
    report = synthesise(job, recipe(chat_server))
    assert report["pairs"] == {"in": 12, "kept": 8, "dropped": {"judged_low": 2, "not_judged": 2}}
    spans = (job.artifacts.fetch(report["spans_uri"]) / "spans.jsonl").read_text().splitlines()
    assert {json.loads(line)["score"] for line in spans} == {5}
    assert sum(request["model"] == "j" for request in chat_server.requests) == 12 + 2
    unjudged = synthesise(job, recipe(chat_server, judge=False, dataset="all"))
    assert unjudged["rows"] == 12


def test_samples_are_spread_over_documents(job: JobRun, corpus: list[Passage], chat_server: Any) -> None:
    chat_server.answer = good
    report = synthesise(job, recipe(chat_server, max_samples=5))
    assert (report["rows"], report["documents_with_rows"], report["stopped_by"]) == (5, 5, "max_samples")
    assert report["pairs"]["dropped"]["over_max_samples"] == 7
    assert adds_up(report)


def test_repeated_questions_are_kept_once(job: JobRun, corpus: list[Passage], chat_server: Any) -> None:
    def answer(request: dict[str, Any]) -> str:
        (pair,) = json.loads(good(request))["pairs"]
        near = pair["question"].replace("ask people to pay", "ask the people to pay")
        return json.dumps([pair, {**pair, "question": pair["question"].upper()}, {**pair, "question": near}])

    chat_server.answer = answer
    report = synthesise(job, recipe(chat_server))
    assert report["pairs"] == {"in": 36, "kept": 12, "dropped": {"same_question": 12, "near_same_question": 12}}


def test_a_question_that_finds_other_passages_is_dropped(job: JobRun, corpus: list[Passage], chat_server: Any) -> None:
    question = "What is it about the towels in the Canal View sauna?"
    chat_server.answer = lambda request: good(request) if "Oak House" in shown(request) else good(request, question=question)
    report = synthesise(job, recipe(chat_server, top_k=1))
    assert report["rows"] == 3
    assert report["pairs"]["dropped"]["not_found_again"] == 9


def test_nothing_good_is_an_error_that_says_why(job: JobRun, corpus: list[Passage], chat_server: Any) -> None:
    chat_server.answer = lambda request: '{"pairs": []}'
    with pytest.raises(InvalidInput, match=r"no rows: 12 passages asked, 0 pairs made, none kept \(nothing to ask"):
        synthesise(job, recipe(chat_server))
    with job.catalog.reading() as work:
        assert datasets.everything(work) == []


def test_a_second_run_at_the_same_time_is_refused(job: JobRun, corpus: list[Passage], chat_server: Any) -> None:
    chat_server.answer = good
    synthesise(job, recipe(chat_server))
    (file,) = (job.settings.home / "work" / "synthesise").glob("*.jsonl")
    journal = Journal(file, [])
    with pytest.raises(Conflict, match="wait for its end"):
        synthesise(job, recipe(chat_server))
    journal.close()
    assert file.read_text() == ""  # no passage is present any more, so nothing about them is kept


def test_the_roles_key_goes_to_its_own_endpoint_only() -> None:
    role = ModelRole(name="r", endpoint="http://a/v1", key="k")
    ask: Callable[..., Any] = lambda **changes: asked_endpoint(role, recipe(**changes))  # noqa: E731
    assert ask() == ("http://a/v1", "r", "k")
    assert ask(endpoint="http://a/v1", model="other") == ("http://a/v1", "other", "k")
    assert ask(endpoint="http://b/v1", model="m") == ("http://b/v1", "m", None)
    with pytest.raises(RecipeError, match="needs the name of a model"):
        ask(endpoint="http://b/v1")
    assert asked_endpoint(ModelRole(name="r", path="models/starter"), recipe()) is None
