"""The gate's job on evaluations that were recorded before: which sets it asks, what it refuses to be told, and what it leaves behind."""

import itertools
from pathlib import Path
from typing import Any, Callable

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from cluster.catalog import agents, datasets, questions, releases, runs
from cluster.catalog.tables import alias_moves
from cluster.domain.agents import Agent
from cluster.domain.base import Frozen
from cluster.domain.datasets import Dataset, Row, SftRow, rows_digest
from cluster.domain.questions import Evaluation, Purpose, Question, QuestionResult, QuestionSet
from cluster.domain.recipes import GateRecipe
from cluster.domain.releases import CHAMPION, Release
from cluster.domain.verdicts import Verdict
from cluster.errors import IntegrityError, InvalidInput
from cluster.job_run import JobRun
from train_jobs import gate

Opener = Callable[[str, Frozen], JobRun]
_NUMBERS = itertools.count()


class Contest:
    """An agent of its own with a skill set of 40 questions, a champion, and challengers that pass what they are told to."""

    def __init__(self, open_job: Opener, folder: Path) -> None:
        self.agent, self._folder = f"contest-{next(_NUMBERS)}", folder
        self.job = open_job("train_jobs.gate", GateRecipe(challenger=self.agent))
        with self.job.catalog.transaction() as work:
            agents.save(work, Agent(name=self.agent))
        self.skill = self.add_set("skill", 40)
        self.champion = self.release("champion", 20)
        self.job.registry.promote(self.champion.ref)

    def add_set(self, purpose: Purpose, count: int, general: bool = False, kind: Any = "exact") -> QuestionSet:
        made = QuestionSet(
            name=f"{self.agent}-{purpose}" + ("-general" if general else ""),
            agent=None if general else self.agent,
            purpose=purpose,
            questions=tuple(
                Question(id=f"q{i}", text=f"Which {purpose} number {i}?", expected="e", kind=kind) for i in range(count)
            ),
        )
        with self.job.catalog.transaction() as work:
            questions.save_set(work, made)
        return made

    def release(self, name: str, passes: int, rows: tuple[str, ...] = ()) -> Release:
        """Passes the first so many of the skill set's questions."""
        folder = self._folder / name
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_text(self.agent + name)
        digests = [self.dataset(rows).digest] if rows else []
        values = {"base_model": "starter", "base_digest": "b", "inputs": digests, "bump": "minor"}
        mlflow = self.job.registry.start_run(self.agent, f"{self.agent}-{name}", {})
        made = self.job.registry.register(Agent(name=self.agent), folder, **values, mlflow_run_id=mlflow)
        self.passed(made, self.skill, range(passes))
        return made

    def dataset(self, texts: tuple[str, ...]) -> Dataset:
        rows: list[Row] = [SftRow(question=text, answer="a", source=f"line {number}") for number, text in enumerate(texts)]
        uri = self.job.artifacts.write_rows(rows).uri
        made = Dataset(digest=rows_digest(rows), name=f"{self.agent}-rows", kind="sft", rows=len(rows), uri=uri)
        with self.job.catalog.transaction() as work:
            datasets.add(work, made)
        return made

    def passed(self, release: Release, asked: QuestionSet, which: range) -> None:
        results = tuple(QuestionResult(question_id=f"q{i}", answer="", passed=i in which) for i in range(len(asked.questions)))
        made = Evaluation(
            release=release.ref, question_set=asked.name, set_digest=asked.digest, options={"retrieve": True}, results=results
        )
        with self.job.catalog.transaction() as work:
            questions.record(work, made)

    def judge(self, challenger: Release, **changes: Any) -> Verdict:
        return Verdict.model_validate(gate.run(self.job, GateRecipe(challenger=challenger.ref, **changes)))

    def crowned(self) -> str | None:
        with self.job.catalog.reading() as work:
            return releases.alias(work, self.agent, CHAMPION)

    def last_move(self) -> str:
        """Why the champion's alias moved last."""
        moves = select(alias_moves.c.reason).where(alias_moves.c.agent == self.agent, alias_moves.c.alias == CHAMPION)
        with self.job.catalog.reading() as work:
            return str(work.run(moves.order_by(alias_moves.c.id.desc())).scalars().first())


@pytest.fixture
def contest(open_job: Opener, tmp_path: Path) -> Contest:
    return Contest(open_job, tmp_path)


def test_the_agents_sets_are_asked_without_being_named_and_missing_ones_are_said(contest: Contest) -> None:
    challenger = contest.release("better", 40)
    verdict = contest.judge(challenger, promote=False)
    assert (verdict.verdict, verdict.promoted, verdict.missing) == ("promote", False, ("regression", "forgetting", "guard"))
    assert f"There is no forgetting set for {contest.agent}: nothing is known of that." in verdict.notes
    assert [one.question_set for one in verdict.comparisons] == [contest.skill.name]
    assert (verdict.champion, verdict.challenger) == (contest.champion.ref, challenger.ref)


def test_regression_forgetting_and_guard_sets_are_asked_beside_those_named(contest: Contest) -> None:
    challenger = contest.release("better", 40)
    for purpose, general in (("regression", False), ("forgetting", False), ("forgetting", True), ("guard", True)):
        made = contest.add_set(purpose, 6, general)
        for release in (contest.champion, challenger):
            contest.passed(release, made, range(6))
    try:
        verdict = contest.judge(challenger, question_sets=(contest.skill.name,), promote=False)
    finally:
        with contest.job.catalog.transaction() as work:  # they are for all agents
            for purpose in ("forgetting", "guard"):
                questions.delete_set(work, f"{contest.agent}-{purpose}-general")
    assert [one.purpose for one in verdict.comparisons] == ["skill", "forgetting", "forgetting", "guard", "regression"]
    assert verdict.missing == ()
    assert verdict.verdict == "promote"
    assert any("was not checked for leaks" in note and "regression" in note for note in verdict.notes)


def test_what_says_nothing_of_the_release_is_not_asked(contest: Contest) -> None:
    routing = contest.add_set("routing", 3, kind="route")
    with pytest.raises(InvalidInput, match="says nothing of a release of"):
        contest.judge(contest.release("one", 40), question_sets=(routing.name,))
    with pytest.raises(InvalidInput, match="A router head is judged where it is trained"):
        gate.gather(contest.job, "router", ())
    with contest.job.catalog.transaction() as work:
        questions.delete_set(work, contest.skill.name)
        questions.delete_set(work, routing.name)
    with pytest.raises(InvalidInput, match=r"There is no question set of purpose skill .* treadle eval add FILE"):
        contest.judge(contest.release("two", 40))


def test_a_promotion_leaves_its_reasons_everywhere(contest: Contest) -> None:
    challenger = contest.release("better", 40)
    verdict = contest.judge(challenger)
    assert verdict.promoted
    assert contest.crowned() == challenger.version
    client = contest.job.registry.client
    version = client.get_model_version_by_alias(f"treadle.{contest.agent}", CHAMPION)
    assert (version.tags["gate"], version.tags["gate.champion"]) == ("promote", contest.champion.ref)
    assert version.tags["gate.reasons"] == verdict.reasons[0]
    assert contest.last_move() == f"passed the gate: {verdict.reasons[0]}"
    stored = client.list_artifacts(challenger.mlflow_run_id)
    assert {file.path for file in stored} == {"gate.json", "lineage.png", "release.json"}
    with contest.job.catalog.transaction() as work:
        assert runs.verdict(work, challenger.ref) is None
        runs.change(work, contest.job.run.id, state="succeeded", result=verdict.model_dump(mode="json"))
        assert runs.verdict(work, challenger.ref) == verdict


def test_a_waiver_promotes_and_is_written_down(contest: Contest) -> None:
    worse = contest.release("worse", 10)
    assert not contest.judge(worse).promoted
    verdict = contest.judge(worse, waive="the old one names a street that is closed")
    assert (verdict.verdict, verdict.outcome, verdict.promoted) == ("keep", "waived", True)
    assert verdict.waived == "the old one names a street that is closed"
    assert contest.crowned() == worse.version
    assert contest.last_move().startswith("waived: the old one names a street that is closed (the gate said keep: On contest-")
    version = contest.job.registry.client.get_model_version_by_alias(f"treadle.{contest.agent}", CHAMPION)
    assert (version.tags["gate"], version.tags["gate.waived"]) == ("waived", verdict.waived)


def test_a_waiver_that_was_not_needed_is_none(contest: Contest) -> None:
    verdict = contest.judge(contest.release("better", 40), waive="just in case")
    assert (verdict.outcome, verdict.waived, verdict.promoted) == ("promote", None, True)
    assert verdict.notes[-1] == "The waiver was not needed."


@pytest.mark.parametrize(
    ("values", "words"), [({"waive": "  "}, "a waiver needs its reason"), ({"waive": "x", "promote": False}, "leave one")]
)
def test_a_waiver_says_why_and_promotes(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        GateRecipe(challenger="a@1.0.0", **values)


def test_bytes_that_changed_are_never_waived(contest: Contest) -> None:
    challenger = contest.release("better", 40)
    place = Path(challenger.adapter_uri) / "adapter_model.safetensors"
    place.chmod(0o644)
    place.write_text("something else")
    with pytest.raises(IntegrityError):
        contest.judge(challenger, waive="never mind")
    assert contest.crowned() == contest.champion.version


def test_a_champion_that_was_replaced_meanwhile_is_compared_with(contest: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another promotion comes in after the comparison: the second round is against the new champion, which is not beaten."""
    challenger, rival = contest.release("better", 40), contest.release("rival", 40)
    judge = gate._judge

    def slow(job: JobRun, *rest: Any) -> Verdict:
        verdict = judge(job, *rest)
        if contest.crowned() == contest.champion.version:
            job.registry.promote(rival.ref)
        return verdict

    monkeypatch.setattr(gate, "_judge", slow)
    verdict = contest.judge(challenger)
    assert (verdict.verdict, verdict.promoted, verdict.champion) == ("keep", False, rival.ref)
    assert contest.crowned() == rival.version


def test_only_the_champion_that_was_compared_with_is_replaced(contest: Contest) -> None:
    challenger, rival = contest.release("better", 40), contest.release("rival", 30)
    contest.job.registry.promote(rival.ref)
    verdict = contest.judge(challenger, champion=contest.champion.ref)
    assert (verdict.verdict, verdict.promoted) == ("keep", False)
    assert "judge it again" in verdict.reasons[0]
    assert contest.crowned() == rival.version


@pytest.mark.parametrize(("passes", "waive"), [(40, None), (10, "the old one names a street that is closed")])
def test_a_gate_that_died_between_promotion_and_verdict_says_it_the_next_time(
    contest: Contest, monkeypatch: pytest.MonkeyPatch, passes: int, waive: str | None
) -> None:
    challenger = contest.release("other", passes)
    with monkeypatch.context() as patch:
        patch.setattr(type(contest.job.registry), "record_verdict", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            contest.judge(challenger, waive=waive)
    assert contest.crowned() == challenger.version
    moved = contest.last_move()
    verdict = contest.judge(challenger, waive=waive)
    assert (verdict.promoted, verdict.waived, verdict.champion) == (True, waive, contest.champion.ref)
    assert verdict.reasons[0] in moved
    assert contest.last_move() == moved


def test_a_champion_is_not_judged_against_itself(contest: Contest) -> None:
    with pytest.raises(InvalidInput, match="is the champion already"):
        contest.judge(contest.champion)


def test_a_few_leaked_questions_are_left_out_and_lost_rows_are_said(contest: Contest) -> None:
    rows = ("Which skill number 3?", "which SKILL number 5", "Who is there?")
    challenger = contest.release("leaky", 40, rows)
    verdict = contest.judge(challenger, promote=False, max_leaked=0.05)
    assert verdict.verdict == "promote"
    (compared,) = verdict.comparisons
    assert [(leak.question_id, leak.source.partition(": ")[2]) for leak in compared.leaked] == [
        ("q3", "line 0"),
        ("q5", "line 1"),
    ]
    assert (compared.n, compared.asked) == (38, 40)
    refused = contest.judge(challenger, promote=False, max_leaked=0.04)
    assert "q3 ↔" in refused.reasons[0]
    with contest.job.catalog.reading() as work:
        uri = datasets.get(work, challenger.datasets[0]).uri
    (Path(uri) / "manifest.json").unlink()
    assert any("are gone" in note for note in contest.judge(challenger, promote=False).notes)
