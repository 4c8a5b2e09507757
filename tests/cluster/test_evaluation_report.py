"""Reports: figures, pages, tables and files, from evaluations in a real catalog."""

import csv
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog, datasets, questions, releases, runs
from cluster.cli import evals
from cluster.cli.console import Home
from cluster.domain.agents import Agent
from cluster.domain.datasets import Dataset, SftRow
from cluster.domain.questions import Evaluation, Question, QuestionResult, QuestionSet
from cluster.domain.releases import Release
from cluster.domain.runs import Run
from cluster.errors import InvalidInput, NotFound
from cluster.evaluation_page import page
from cluster.evaluation_report import Reporter

HOSTILE = '<script>alert(1)</script> & "quoted" =1+1'
ASKED = QuestionSet(
    name="skill",
    agent="linux",
    questions=tuple(
        Question(
            id=f"q{number}",
            text=f"List {number} files {HOSTILE if number == 0 else ''}",
            expected=f"ls {number}",
            slices=("even" if number % 2 == 0 else "odd",),
        )
        for number in range(20)
    ),
)


def evaluation(release: str, good: Callable[[int], bool], **changes: object) -> Evaluation:
    results = tuple(
        QuestionResult(
            question_id=question.id,
            answer=question.expected if good(number) else f"=rm {number} {HOSTILE}",
            passed=good(number),
            latency_s=0.01 * (number + 1),
            slices=question.slices,
            detail="" if good(number) else f"expected exact '{question.expected}'",
        )
        for number, question in enumerate(ASKED.questions)
    )
    whole = {"release": release, "question_set": "skill", "set_digest": ASKED.digest, "options": {"retrieve": True}}
    return Evaluation.model_validate({**whole, "results": results, **changes})


@pytest.fixture
def kept(catalog: Catalog, artifacts: Artifacts) -> tuple[Evaluation, Evaluation]:
    """Two releases on one set; the newer is wrong on every fourth question, the older on the odd ones below ten."""
    rows = [SftRow(question=f"List {number} files", answer="x", source="t") for number in range(30)]
    bundle = artifacts.write_rows(rows)
    old = evaluation("linux@0.1.0", lambda number: number % 2 == 0 or number >= 10)
    new = evaluation("linux@0.2.0", lambda number: number % 4 != 0)
    with catalog.transaction() as work:
        datasets.add(work, Dataset(digest="d" * 64, name="rows", kind="sft", agent="linux", rows=30, uri=bundle.uri))
        for version in ("0.1.0", "0.2.0"):
            releases.add(
                work,
                Release(
                    agent="linux",
                    version=version,
                    card=Agent(name="linux"),
                    adapter_uri="none",
                    adapter_digest="0" * 64,
                    base_model="starter",
                    base_digest="0" * 64,
                    datasets=("d" * 64,),
                ),
            )
        questions.save_set(work, ASKED)
        questions.record(work, old)
        questions.record(work, new)
    return old, new


def test_a_report_has_rates_with_intervals_slices_and_what_changed(catalog, artifacts, kept):
    made = Reporter(catalog, artifacts).named("linux@0.2.0", "linux@0.1.0")
    (one,) = made.sets
    assert (one.rate.hits, one.rate.n, one.purpose, one.changed) == (15, 20, "skill", False)
    assert one.rate.low == pytest.approx(0.5313, abs=1e-4)  # Wilson's, by hand
    assert [(part.name, part.rate.hits, part.against.hits) for part in one.slices] == [("even", 5, 10), ("odd", 10, 5)]
    assert (one.against.newly_right, one.against.newly_wrong, one.against.p) == (5, 5, 1.0)
    assert {line.question_id for line in one.moved} == {f"q{number}" for number in (0, 4, 8, 12, 16, 1, 3, 5, 7, 9)}
    assert [line.passed for line in one.moved] == [False] * 5 + [True] * 5
    assert one.latency == {"p50": 0.1, "p95": 0.19, "p99": 0.2, "max": 0.2}
    assert one.failures[0].why == "something else"
    (suggestion,) = one.suggestions
    assert (suggestion.slice, suggestion.failing.hits, suggestion.near_failing) == ("even", 5, 30)
    assert json.loads(made.model_dump_json())["sets"][0]["rate"]["hits"] == 15


def test_an_evaluation_is_found_by_its_id_and_a_missing_one_is_said(catalog, artifacts, kept):
    reporter = Reporter(catalog, artifacts)
    assert reporter.named(kept[0].id).sets[0].evaluation == kept[0].id
    with pytest.raises(NotFound, match=r"There is no evaluation 'linux@9\.9\.9'"):
        reporter.named("linux@9.9.9")
    with pytest.raises(NotFound, match="no evaluation of 'linux@base' to compare with"):
        reporter.named("linux@0.2.0", "linux@base")


def test_a_set_that_changed_and_an_other_way_of_asking_are_said(catalog, artifacts, kept):
    other = ASKED.model_copy(update={"questions": (*ASKED.questions[:5], Question(id="new", text="n", expected="n"))})
    with catalog.transaction() as work:
        questions.save_set(work, other)
        questions.record(work, evaluation("linux@base", lambda number: True, options={"retrieve": False}))
    made = Reporter(catalog, artifacts).named("linux@0.2.0", "linux@base")
    assert made.sets[0].changed
    assert [bool(line.question) for line in made.sets[0].lines] == [True] * 5 + [False] * 15
    assert made.notes == ("linux@base was not asked the same questions of 'skill' in the same way, so they are not compared.",)
    assert "has changed since" in page(made)
    with catalog.transaction() as work:
        questions.delete_set(work, "skill")
    assert Reporter(catalog, artifacts).named("linux@0.2.0").sets[0].changed


def test_documents_are_pointed_at_where_the_agent_has_any(catalog, artifacts, kept):
    with catalog.transaction() as work:
        found = releases.get(work, "linux@0.2.0")
        card = found.card.model_copy(update={"corpora": ("manuals",)})
        releases.add(work, found.model_copy(update={"version": "0.4.0", "card": card}))
        questions.record(work, evaluation("linux@0.4.0", lambda number: number > 3))
    (note,) = Reporter(catalog, artifacts).named("linux@0.4.0").notes
    assert "(manuals)" in note
    assert "treadle data search" in note


def test_training_rows_that_are_gone_lose_no_report(catalog, artifacts, kept, settings):
    for file in Path(settings.artifacts_url).rglob("rows.jsonl"):
        file.unlink()
    made = Reporter(catalog, artifacts).named("linux@0.2.0")
    assert made.notes[0].startswith("The training rows of linux@0.2.0 cannot be read")
    assert made.sets[0].suggestions[0].add is None


def test_the_judges_agreement_stands_beside_its_grades(catalog, artifacts, kept):
    with catalog.transaction() as work:
        for name in ("j at there", "k at there"):
            questions.record(work, evaluation("linux@0.3.0", lambda number: True, options={"retrieve": True, "judge": name}))
        result = {"judge": "j at there", "meaning": "The judge ranks answers much as people do."}
        runs.save(work, Run(job="train_jobs.calibrate", state="succeeded", result=result))
    made = Reporter(catalog, artifacts).named("linux@0.3.0")
    assert [one.judge.partition(" ")[0] for one in made.sets] == ["The", "How"]
    assert "much as people do" in page(made)


class _Tags(HTMLParser):
    """Which elements open, and whether all that open close."""

    VOID = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "srcset", "style")]
        self.links += [f"{tag} {name}" for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_runs_nothing(catalog, artifacts, kept):
    text = page(Reporter(catalog, artifacts).named("linux@0.2.0", "linux@0.1.0"))
    tags = _Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.links == []
    assert "script" not in tags.seen
    assert not re.search(r"url\(|@import", text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quoted&quot;" in text
    plots = re.findall(r"<svg.*?</svg>", text)
    assert len(plots) == 2
    for plot in plots:
        ElementTree.fromstring(plot)
    assert plots[0].count("<circle") == 6  # all, even and odd, now and before
    for said in ("What fails, and what would help", "How long answers took", "What changed (10)", "Questions that fail (5)"):
        assert said in text


def test_a_page_of_many_failures_shows_some_and_says_how_many_more(catalog, artifacts, kept):
    made = Reporter(catalog, artifacts).named("linux@0.2.0")
    many = [line for line in made.sets[0].lines if not line.passed] * 50
    wide = made.model_copy(update={"sets": (made.sets[0].model_copy(update={"lines": tuple(many)}),)})
    assert "and 50 more" in page(wide)


@pytest.fixture
def command(kept, monkeypatch) -> Callable[..., str]:
    """A command of `treadle eval` on this home; returns what it wrote on stdout."""
    monkeypatch.setattr(evals, "home", Home())

    def run(*words: str) -> str:
        done = CliRunner().invoke(evals.app, list(words), catch_exceptions=False)
        assert done.exit_code == 0
        return done.stdout

    return run


def test_the_report_is_written_as_asked(command, tmp_path, kept):
    file = tmp_path / "out" / "r.html"
    assert json.loads(command("report", "linux@0.2.0", "-o", str(file), "--json")) == {"questions": 20, "file": str(file)}
    assert file.read_text().startswith("<!doctype html>")
    command("report", kept[1].id, "--against", "linux@0.1.0", "-o", str(tmp_path / "r.csv"))
    with (tmp_path / "r.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 20
    assert rows[0]["answer"].startswith("'=rm 0")
    assert (rows[1]["passed"], rows[1]["passed_before"], rows[1]["slices"]) == ("True", "False", '["odd"]')
    assert json.loads(command("report", "linux@0.2.0", "--form", "json"))["sets"][0]["rate"]["n"] == 20
    assert json.loads(command("report", "linux@0.2.0", "--json"))["title"] == "linux@0.2.0"
    shown = command("report", "linux@0.2.0", "--against", "linux@0.1.0")
    assert "75.0% (53% to 89%)" in shown
    with pytest.raises(InvalidInput, match="does not end in"):
        command("report", "linux@0.2.0", "-o", str(tmp_path / "r.pdf"))
    with pytest.raises(InvalidInput, match="cannot be written"):
        command("report", "linux@0.2.0", "-o", "/proc/r.html")


def test_releases_are_compared_with_a_sign_test(command):
    (one,) = json.loads(command("compare", "linux@0.1.0", "linux@0.2.0", "--json"))
    assert one == {"question_set": "skill", "before": 0.75, "after": 0.75, "n": 20, "newly_right": 5, "newly_wrong": 5, "p": 1.0}
    with pytest.raises(NotFound, match="were never asked the same questions"):
        command("compare", "linux@0.1.0", "linux@base")


def test_what_to_evaluate_is_said_once(command):
    with pytest.raises(InvalidInput, match="Name a release and at least one question set"):
        command("run", "linux@0.1.0")
    with pytest.raises(InvalidInput, match="leave the arguments out"):
        command("run", "linux@0.1.0", "skill", "--recipe", "configs/train/evaluate.yaml")
