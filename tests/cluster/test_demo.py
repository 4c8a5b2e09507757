"""What the demo's people say, and what it tells of a report; the demo itself takes minutes: `make demo`."""

import json

import pytest

from cluster import demo
from cluster.cli.demo import show
from cluster.domain.questions import Evaluation, QuestionResult
from cluster.errors import InvalidInput
from cluster.flywheel import Plan
from cluster.settings import ROOT, load_recipe

REPORT = {
    "seconds": {"teach": 12.5, "total": 40.0},
    "agents": {"linux": {"exact_match": {"base": 0.0, "adapter": 0.9375, "n": 120}}},
    "router": {"accuracy": 0.9625, "out_of_scope_recall": 0.875, "n": 252},
    "retrieval": {"with": 0.8375, "without": 0.0125, "n": 120},
    "validation": {"before": 0.5, "after": 0.75, "gain_ci95": [0.125, 0.375], "n": 120},
    "gate": {"verdict": "promote", "reasons": ["On rules the challenger is better."]},
    "releases": {"before": "property@0.1.0", "after": "property@0.2.0"},
    "swap": {"requests": 127, "failed": 3},
    "diff": {
        "before": "property@0.1.0",
        "after": "property@0.2.0",
        "rows_added": 288,
        "answers": {
            "rules": [
                {"question_id": "r1", "before": "Soon.", "after": "Within 3 days.", "passed_before": False, "passed_after": True}
            ]
        },
    },
}


def test_every_figure_of_the_report_is_shown(capsys):
    show(REPORT)
    said = capsys.readouterr().out
    for figure in ("93.8%", "96.2%", "87.5%", "83.8%", "1.2%", "75.0%", "+12.5%", "+37.5%", "127", "3 failed", "+288", "40.0"):
        assert figure in said, figure
    for words in ("promote", "On rules the challenger is better.", "1 answers changed, 1 better, 0 worse", "+ Within 3 days."):
        assert words in said, words


@pytest.mark.parametrize(
    ("agent", "answer", "said"),
    [
        ("property", "A plumber will come.", [("thumb", "up")]),
        ("property", "No.", [("thumb", "down"), ("ideal_answer", "A plumber will come.")]),
        ("linux", "ls", [("right_agent", "property")]),
    ],
)
def test_people_say_what_is_wrong_with_an_answer(agent, answer, said):
    judgement = {"question": "A leak!", "ideal": "A plumber will come."}
    given = {"choices": [{"message": {"content": f" {answer}\n"}}], "treadle": {"agent": agent}}
    assert [(one["kind"], one["value"]) for one in demo._signals(judgement, given, "property")] == said


def test_a_demo_that_was_played_is_found_again(tmp_path):
    assert demo.played(tmp_path) is None
    (tmp_path / demo.REPORT).write_text('{"seconds": ')
    assert demo.played(tmp_path) is None
    (tmp_path / demo.REPORT).write_text(json.dumps(REPORT))
    assert demo.played(tmp_path) == REPORT


def test_a_broken_judgement_is_named_by_line(tmp_path):
    file = tmp_path / "judgements.jsonl"
    file.write_text(json.dumps({"question": "q", "ideal": "a"}) + "\n" + json.dumps({"question": "q"}) + "\n")
    with pytest.raises(InvalidInput, match="line 2"):
        demo.read_judgements(file)


def test_out_of_scope_questions_do_not_count_as_routed():
    results = [
        QuestionResult(question_id=str(number), answer="", passed=passed, slices=slices)
        for number, (passed, slices) in enumerate([(True, ("linux",)), (False, ("linux",)), (True, ("out_of_scope",))])
    ]
    evaluation = Evaluation(release="auto", question_set="routing", set_digest="d", results=tuple(results))
    assert demo._routed(evaluation) == {"accuracy": 0.5, "out_of_scope_recall": 1.0, "n": 3}


def test_the_shipped_demo_names_what_its_plan_has():
    shipped = load_recipe(demo.DemoPlan, ROOT / "configs" / "demo" / "demo.yaml")
    plan = load_recipe(Plan, ROOT / shipped.plan)
    sets = {name for one in plan.agents.values() for name in one.question_sets}
    assert {*shipped.exact_match.values(), shipped.knowledge, shipped.validation} <= sets
    assert set(shipped.exact_match) == set(plan.agents)
    assert plan.agents[shipped.learner].dpo is not None
    assert len(demo.read_judgements(ROOT / shipped.judgements)) >= 100
