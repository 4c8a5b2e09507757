"""What fails, how, and what would help."""

import random

import pytest

from cluster.domain.questions import Evaluation, Question, QuestionResult
from cluster.suggestions import NEAR, failure_kind, forms, near_counts, suggest, words


def _result(question: Question, answer: str, passed: bool = False, detail: str = "") -> QuestionResult:
    return QuestionResult(question_id=question.id, answer=answer, passed=passed, slices=question.slices, detail=detail)


@pytest.mark.parametrize(
    ("given", "answer", "detail", "kind"),
    [
        ({"expected": "find /tmp -size +5M"}, "find /tmp -size +7M", "", "with a wrong number"),
        ({"expected": "find /tmp -size +5M"}, "find /tmp -mtime +5M", "", "with one wrong word"),
        ({"expected": "find /tmp -size +5M"}, "find /var -name x", "", "with two or three wrong words"),
        ({"expected": "find /tmp -size +5M"}, "ls -la", "", "something else"),
        ({"expected": "find /tmp -size +5M"}, "find /tmp", "", "cut off"),
        ({"expected": "find /tmp"}, "Run find /tmp now", "", "right with more around it"),
        ({"expected": "find /tmp"}, "FIND  /tmp", "", "off by white space or case"),
        ({"expected": "find /tmp"}, " ", "", "empty"),
        ({"expected": ("aaa bbb", "find /tmp 5")}, "find /tmp 6", "", "with a wrong number"),
        ({"kind": "regex", "expected": "a"}, "b", "", "without the pattern"),
        ({"kind": "similarity", "expected": "a"}, "b", "cosine 0.1", "unlike the references"),
        ({"kind": "rules"}, "b", "timeline, length", "break timeline, length"),
        ({"kind": "judge", "criteria": "c"}, "b", "grade 2 of 5: thin", "of grade 2"),
        ({"kind": "json_schema", "expected": "{}"}, "b", "the answer is not JSON", "not JSON"),
        ({"kind": "json_schema", "expected": "{}"}, "{}", "at count: 0 is less", "off the schema at count"),
        ({"kind": "route", "expected": "linux"}, "", "", "taken for out of scope"),
        ({"kind": "route", "expected": "linux"}, "python", "", "sent to python"),
        ({"kind": "route", "expected": None}, "python", "", "out of scope, sent to python"),
        ({"expected": "a"}, "", "refused: too long", "refused by the server"),
    ],
)
def test_failures_have_kinds(given, answer, detail, kind):
    question = Question(id="1", text="q", **given)
    assert failure_kind(question, _result(question, answer, detail=detail)) == kind
    assert "no longer in the set" in failure_kind(None, _result(question, "x"))


def test_near_rows_are_those_that_share_a_third_of_their_words():
    pick = random.Random(1)
    vocabulary = [f"w{chr(97 + number)}" for number in range(12)]
    texts = [" ".join(pick.choices(vocabulary, k=pick.randint(1, 6))) for _ in range(400)]
    questions, rows = texts[:300], texts[300:]
    expected = [sum(len(words(q) & words(r)) >= NEAR * len(words(q) | words(r)) for r in rows) for q in questions]
    assert near_counts(questions, rows) == expected
    assert max(expected) > 0
    assert near_counts(["?!", "one"], ["?!", "one"]) == [0, 1]
    assert near_counts([], ["a"]) == []
    assert near_counts(["one two"], ["one two"] * 10 + ["x"] * 10, most=8) == [12]  # every third row, thrice


def test_digits_are_alike_and_forms_are_counted_once():
    assert words("Find files over 5 MB in /tmp9.") == words("find FILES over 99 mb, in tmp1")
    assert forms(["Find 5 files", "find 6 files", "Who are you?"]) == 2


def _evaluation(failing: int, passing: int) -> tuple[Evaluation, dict[str, Question]]:
    asked = [
        Question(id=f"f{number}", text=f"Pack folder {number} into an archive", expected="tar", slices=("pack",))
        for number in range(failing + 2)
    ]
    asked += [
        Question(id=f"p{number}", text=f"List files over {number} MB", expected="ls", slices=("list",))
        for number in range(passing)
    ]
    results = [_result(one, "tar" if n >= failing else "tr", passed=n >= failing) for n, one in enumerate(asked)]
    made = Evaluation(release="a@1.0.0", question_set="s", set_digest="d", results=tuple(results))
    return made, {one.id: one for one in asked}


def test_a_slice_without_rows_asks_for_rows():
    evaluation, asked = _evaluation(failing=8, passing=20)
    (one,) = suggest(evaluation, asked, [f"List files over {number} MB" for number in range(30)])
    assert (one.slice, one.failing.hits, one.failing.n, one.kinds) == ("pack", 8, 10, {"something else": 8})
    assert (one.near_failing, one.near_passing, one.add) == (0, 30, 30)
    assert one.text == (
        "pack: 8 of 10 fail (80%, at least 49% with 95% confidence): 8 something else. A question that fails has 0 training rows near "
        "it (median, against 30 for one that passes): add about 30 rows like them; questions such as “Pack folder 0 into an archive” "
        "with right answers."
    )


def test_a_slice_with_rows_asks_to_look_at_them():
    evaluation, asked = _evaluation(failing=8, passing=20)
    rows = [f"Pack folder {n} into an archive" for n in range(40)] + [f"List files over {n} MB" for n in range(30)]
    (one,) = suggest(evaluation, asked, rows)
    assert (one.near_failing, one.add) == (40, 0)
    assert "see whether their answers are right and alike" in one.text


def test_without_rows_nothing_is_said_of_them_and_without_failures_nothing_at_all():
    evaluation, asked = _evaluation(failing=3, passing=1)
    (one,) = suggest(evaluation, asked, None)
    assert (one.add, one.near_failing) == (None, None)
    assert one.text.endswith("no training rows to compare with.")
    assert suggest(*_evaluation(failing=0, passing=5), ["x"]) == ()


def test_the_surest_failures_come_first_and_unanswered_questions_say_nothing():
    asked = {str(n): Question(id=str(n), text=f"q {n}", expected="x", slices=("small" if n < 2 else "large",)) for n in range(42)}
    results = [_result(one, "y") for one in asked.values()]
    evaluation = Evaluation(release="a@base", question_set="s", set_digest="d", results=tuple(results))
    assert [one.slice for one in suggest(evaluation, asked, None)] == ["large", "small"]
    gone = [result.model_copy(update={"answered": False}) for result in results]
    assert suggest(evaluation.model_copy(update={"results": tuple(gone)}), asked, None) == ()
