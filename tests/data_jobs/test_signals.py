"""Signals to datasets, regression questions and ledger, in a real catalog."""

from typing import Any

import pytest

from cluster.artifacts import Artifacts
from cluster.catalog import conversations, datasets, questions
from cluster.catalog import signals as recorded
from cluster.domain.conversations import Citation, Correction, Route, Turn
from cluster.domain.data_recipes import SignalsRecipe
from cluster.domain.datasets import DpoRow, RouterRow, SftRow
from cluster.domain.signals import Signal
from cluster.domain.users import Access
from cluster.domain.validation import Validation
from cluster.errors import TreadleError
from cluster.job_run import JobRun
from data_jobs import signals as module
from data_jobs.signals import curate


def turn(number: int, agent: str = "property") -> Turn:
    cited = Citation(number=1, passage_id="p", document_id="d", source="a.md", text="The rent is 900.")
    return Turn(
        id=f"turn_{number}",
        conversation_id=f"conv_{number}",
        user="ann",
        question=f"question {number}",
        passages=(cited,),
        answer=f"answer {number}",
        agent=agent,
        release=f"{agent}@0.1.0",
        route=Route(agent=agent),
        validation=Validation(passed=True),
    )


def signal(number: int, kind: Any, value: Any = None) -> Signal:
    return Signal(id=f"sig_{number}_{kind}", turn_id=f"turn_{number}", kind=kind, value=value, user="ann")


def keep(job: JobRun, turns: list[Turn], signals: list[Signal]) -> None:
    with job.catalog.transaction() as work:
        conversations.record(work, turns)
        recorded.record(work, signals)


def test_every_kind_of_signal_becomes_what_it_should_and_the_ledger_says_so(job: JobRun) -> None:
    keep(
        job,
        [turn(1), turn(2), turn(3), turn(4), turn(5, "linux")],
        [
            signal(1, "thumb", "up"),
            signal(2, "thumb", "down"),
            signal(2, "ideal_answer", "better 2"),
            signal(3, "right_agent", "linux"),
            signal(4, "operator_note", "look at this"),
            signal(5, "ideal_answer", "ls -l"),
        ],
    )
    report = curate(job, SignalsRecipe())
    assert report["signals"] == {"in": 6, "used": 4, "without_use": 2}
    assert report["questions"] == {"linux-regression": 1, "property-regression": 1}
    with job.catalog.reading() as work:
        made = {one.name: one for one in datasets.everything(work)}
        links = recorded.links(
            work, [f"sig_{name}" for name in ("1_thumb", "2_thumb", "2_ideal_answer", "3_right_agent", "4_operator_note")]
        )
        regression = questions.get_set(work, "property-regression")
        assert recorded.waiting(work) == []
    rows = {name: job.artifacts.read_rows(one.uri) for name, one in made.items()}
    assert {name: (one.kind, one.agent, one.rows) for name, one in made.items()} == {
        "property-signals-sft": ("sft", "property", 2),
        "property-signals-dpo": ("dpo", "property", 1),
        "linux-signals-sft": ("sft", "linux", 1),
        "linux-signals-dpo": ("dpo", "linux", 1),
        "signals-router": ("router", None, 1),
    }
    passages = ("The rent is 900.",)
    assert rows["property-signals-sft"] == [
        SftRow(question="question 1", passages=passages, answer="answer 1", source="turn:turn_1"),
        SftRow(question="question 2", passages=passages, answer="better 2", source="turn:turn_2"),
    ]
    assert rows["property-signals-dpo"] == [
        DpoRow(question="question 2", passages=passages, chosen="better 2", rejected="answer 2", source="turn:turn_2")
    ]
    assert rows["signals-router"] == [RouterRow(text="question 3", agent="linux", source="turn:turn_3")]
    asked = regression.questions[0]
    assert (asked.text, asked.expected) == ("question 2", "better 2")
    assert links["sig_2_ideal_answer"] == [
        ("dataset", made["property-signals-dpo"].ref),
        ("dataset", made["property-signals-sft"].ref),
        ("question", f"property-regression#{asked.id}"),
    ]
    assert links["sig_1_thumb"] == [("dataset", made["property-signals-sft"].ref)]
    assert links["sig_3_right_agent"] == [("dataset", made["signals-router"].ref)]
    assert [kind for kind, _ in links["sig_4_operator_note"]] == [kind for kind, _ in links["sig_2_thumb"]] == ["none"]


def test_a_repaired_answer_becomes_a_pair_and_a_failure_alone_nothing(job: JobRun) -> None:
    repaired = Correction(first="bad 1", failures=("tone",), reasons=("It is rude.",), kept="second")
    keep(
        job,
        [turn(1).model_copy(update={"correction": repaired}), turn(2)],
        [signal(1, "failed_validation", ["tone"]), signal(2, "failed_validation", ["length"])],
    )
    report = curate(job, SignalsRecipe())
    assert report["signals"] == {"in": 2, "used": 1, "without_use": 1}
    (made,) = report["datasets"]
    assert made["name"] == "property-signals-dpo"
    passages = ("The rent is 900.",)
    assert job.artifacts.read_rows(made["uri"]) == [
        DpoRow(question="question 1", passages=passages, chosen="answer 1", rejected="bad 1", source="turn:turn_1")
    ]
    with job.catalog.reading() as work:
        links = recorded.links(work, ["sig_1_failed_validation"])
    assert links["sig_1_failed_validation"] == [("dataset", made["ref"])]


def test_nothing_waiting_is_no_error_and_makes_nothing(job: JobRun) -> None:
    assert curate(job, SignalsRecipe()) == {"signals": {"in": 0, "used": 0, "without_use": 0}, "datasets": [], "questions": {}}
    with job.catalog.reading() as work:
        assert datasets.everything(work) == []


def test_a_second_round_takes_only_what_is_new(job: JobRun) -> None:
    keep(job, [turn(1), turn(2)], [signal(1, "thumb", "up")])
    curate(job, SignalsRecipe())
    keep(job, [], [signal(2, "thumb", "up"), signal(1, "operator_note", "fine")])
    (made,) = curate(job, SignalsRecipe())["datasets"]
    assert [row.source for row in job.artifacts.read_rows(made["uri"])] == ["turn:turn_2"]


def test_one_agents_signals_leave_the_others_waiting(job: JobRun) -> None:
    keep(job, [turn(1), turn(2, "linux")], [signal(1, "thumb", "up"), signal(2, "thumb", "up")])
    assert [one["name"] for one in curate(job, SignalsRecipe(agent="linux"))["datasets"]] == ["linux-signals-sft"]
    with job.catalog.reading() as work:
        assert [one.turn_id for one in recorded.waiting(work)] == ["turn_1"]


def test_the_same_correction_twice_is_one_row_linked_from_both(job: JobRun) -> None:
    same = turn(2).model_copy(update={"question": "question 1", "answer": "answer 1"})
    keep(job, [turn(1), same], [signal(1, "ideal_answer", "better"), signal(2, "ideal_answer", "better")])
    report = curate(job, SignalsRecipe())
    assert {one["kind"]: one["rows"] for one in report["datasets"]} == {"sft": 1, "dpo": 1}
    assert report["questions"] == {"property-regression": 1}
    with job.catalog.reading() as work:
        links = recorded.links(work, ["sig_1_ideal_answer", "sig_2_ideal_answer"])
    assert links["sig_1_ideal_answer"] == links["sig_2_ideal_answer"]
    assert len(links["sig_1_ideal_answer"]) == 3


def test_a_job_that_dies_leaves_every_signal_waiting(job: JobRun, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(job, [turn(1), turn(2)], [signal(1, "ideal_answer", "better"), signal(2, "thumb", "up")])

    def die(*_: Any) -> None:
        raise TreadleError("killed here")

    monkeypatch.setattr(module.catalog_signals, "mark_curated", die)
    with pytest.raises(TreadleError, match="killed here"):
        curate(job, SignalsRecipe())
    with job.catalog.reading() as work:
        assert len(recorded.waiting(work)) == 2
        assert datasets.everything(work) == []
        assert questions.sets(work) == []
    monkeypatch.undo()
    assert isinstance(job.artifacts, Artifacts)
    assert curate(job, SignalsRecipe())["signals"]["in"] == 2


def test_answers_from_documents_for_some_are_trained_into_nobody(job: JobRun) -> None:
    for_some = turn(1).passages[0].model_copy(update={"readers": Access(users=("ann",))})
    restricted = [turn(n).model_copy(update={"passages": (for_some,)}) for n in (1, 2)]
    keep(job, restricted, [signal(1, "ideal_answer", "better"), signal(2, "right_agent", "linux")])
    report = curate(job, SignalsRecipe())
    assert [one["name"] for one in report["datasets"]] == ["signals-router"]
    assert report["questions"] == {}
    with job.catalog.reading() as work:
        assert recorded.links(work, ["sig_1_ideal_answer"])["sig_1_ideal_answer"] == [("none", module.RESTRICTED)]
