import pytest

from cluster.domain.questions import Evaluation, Question, QuestionResult, passes
from cluster.domain.validation import LengthRule


@pytest.mark.parametrize(
    ("kind", "expected", "answer", "good"),
    [
        ("exact", "ls -la /tmp", " ls  -la /tmp\n", True),
        ("exact", "ls -la /tmp", "ls -la /TMP", False),
        ("exact", "Open at 9:00.", "Open at 9:00. [2]", True),
        ("exact", "Open at 9:00. [1]", "Open at 9:00. [2]", False),
        ("contains", "9:00", "It opens at 9:00. [1]", True),
        ("contains", "9:00", "It opens at 19:30.", False),
        ("regex", r"^ls\b", "ls -la", True),
        ("route", "linux", "linux", True),
        ("route", None, "", True),
        ("route", None, "linux", False),
    ],
)
def test_expectations(kind, expected, answer, good):
    passed, why = passes(Question(id="1", text="q", kind=kind, expected=expected), answer)
    assert passed is good
    assert bool(why) is not good


def test_rules_name_what_was_broken():
    assert passes(Question(id="1", text="q", kind="rules"), "x", [LengthRule(min_chars=5)]) == (False, "length")


def test_an_evaluation_sums_up_by_slice_and_latency():
    results = tuple(
        QuestionResult(question_id=str(n), answer="", passed=n < 3, latency_s=n / 10, slices=("even" if n % 2 == 0 else "odd",))
        for n in range(4)
    )
    found = Evaluation(release="a@1.0.0", question_set="s", set_digest="d", results=results)
    assert (found.n, found.rate, found.slice_rates()) == (4, 0.75, {"even": 1.0, "odd": 0.5})
    assert (found.latency(0.5), found.latency(0.95)) == (0.1, 0.3)
