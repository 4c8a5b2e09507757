import json
from typing import get_args

import pytest

from cluster.domain.base import digest_of
from cluster.domain.parsing import parse
from cluster.domain.questions import Evaluation, ExpectationKind, Question, QuestionResult, QuestionSet, passes
from cluster.domain.validation import LengthRule
from cluster.errors import InvalidInput
from cluster.flywheel import load_questions

ORDER = {
    "type": "object",
    "properties": {"item": {"type": "string", "pattern": "^[a-z]+$"}, "count": {"$ref": "#/$defs/count"}},
    "required": ["item", "count"],
    "additionalProperties": False,
    "$defs": {"count": {"type": "integer", "minimum": 1}},
}


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


@pytest.mark.parametrize(
    ("kind", "answer", "good"),
    [("exact", "Yes.", True), ("exact", "Right. [1]", True), ("exact", "No.", False), ("contains", "it is right.", True)],
)
def test_of_several_texts_one_is_enough(kind, answer, good):
    assert passes(Question(id="1", text="q", kind=kind, expected=("Yes.", "Right.")), answer)[0] is good


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ('{"item": "bolt", "count": 2}', ""),
        ('Here you are:\n```json\n{"item": "bolt", "count": 2}\n```\nAnything else?', ""),
        ('{"item": "bolt", "count": 0}', "at count: 0 is less than the minimum of 1"),
        ('{"item": "Bolt", "count": 2}', "at item: 'Bolt' does not match '^[a-z]+$'"),
        ('{"item": "bolt"}', "as a whole: 'count' is a required property"),
        ('The order is {"item": "bolt", "count": 2}.', "the answer is not JSON"),
        ("```\n1\n```\n```\n2\n```", "the answer has several code fences"),
        ('{"item": "bolt", "count": NaN}', "the answer is not JSON"),
        ("[" * 100_000, "the answer is JSON nested too deeply"),
        ("", "the answer is not JSON"),
    ],
)
def test_json_is_held_against_its_schema(answer, why):
    assert passes(Question(id="1", text="q", kind="json_schema", expected=ORDER), answer) == (not why, why)


def test_a_schema_is_the_same_as_a_mapping_and_as_text():
    assert Question(id="1", text="q", kind="json_schema", expected=ORDER) == Question(
        id="1", text="q", kind="json_schema", expected=json.dumps(ORDER, sort_keys=True)
    )


def test_patterns_of_a_schema_take_linear_time():
    schema = {"type": "string", "pattern": "^(a+)+$"}
    assert passes(Question(id="1", text="q", kind="json_schema", expected=schema), json.dumps("a" * 5000 + "!"))[0] is False


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "strin"}, "is wrong at type"),
        ({"$ref": "http://127.0.0.1:9/order.json"}, "nothing is fetched"),
        ({"properties": {"a": {"prefixItems": [{"$ref": "file:///etc/hosts"}]}}}, "nothing is fetched"),
        ({"$ref": "#/$defs/none"}, "which is not there"),
        ({"$ref": "#none"}, "which is not there"),
        ({"$ref": "#"}, "refers to itself without end"),
        ({"pattern": "(?=a)b"}, "is not valid RE2"),
        ({"patternProperties": {"^(a+)+$": {}}}, "patternProperties, which is not supported"),
        ("{", "is not JSON"),
        ("3", "is no object"),
    ],
)
def test_a_bad_schema_is_refused_when_the_set_is_loaded_naming_the_question(schema, says):
    raw = {"name": "orders", "questions": [{"id": "o-7", "text": "q", "kind": "json_schema", "expected": schema}]}
    with pytest.raises(InvalidInput) as caught:
        parse(QuestionSet, raw, "orders.yaml")
    assert caught.value.message.startswith("orders.yaml: ")
    assert "question 'o-7'" in caught.value.message
    assert says in caught.value.message


def test_what_looks_like_a_reference_in_data_is_data():
    schema = {"properties": {"$ref": {"const": {"$ref": "http://a"}}, "patternProperties": {"type": "string"}}}
    question = Question(id="1", text="q", kind="json_schema", expected=schema)
    assert passes(question, '{"$ref": {"$ref": "http://a"}, "patternProperties": "x"}')[0]
    assert not passes(question, '{"$ref": "http://a"}')[0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": "similarity"}, "needs 'expected'"),
        ({"kind": "judge"}, "needs 'criteria', 'expected', or both"),
        ({"kind": "regex", "expected": ["a", "b"]}, "takes one text"),
        ({"kind": "regex", "expected": "("}, "is not valid RE2"),
        ({"kind": "contains", "expected": [" "]}, "has an empty text"),
        ({"kind": "exact", "expected": "a", "criteria": "short"}, "takes no 'criteria'"),
        ({"kind": "exact", "expected": "a", "threshold": 0.5}, "takes no 'threshold'"),
        ({"kind": "similarity", "expected": "a", "threshold": 1.5}, "above 0 and up to 1, not 1.5"),
        ({"kind": "judge", "expected": "a", "threshold": 0.5}, "above 1 and up to 5, not 0.5"),
    ],
)
def test_a_question_that_cannot_be_judged_is_refused_by_its_id(given, says):
    with pytest.raises(InvalidInput, match="question 'q-1'") as caught:
        parse(Question, {"id": "q-1", "text": "q", **given}, "set.yaml")
    assert says in caught.value.message


def test_the_shipped_example_has_every_kind():
    loaded = load_questions("configs/questions/every-kind.yaml")
    assert {question.kind for question in loaded.questions} == {*get_args(ExpectationKind)} - {"route"}


def test_an_id_stands_once_in_a_set():
    with pytest.raises(InvalidInput, match="the id 'a' stands at several questions"):
        parse(QuestionSet, {"name": "s", "questions": [{"id": "a", "text": "q", "expected": "x"}] * 2}, "s.yaml")


def test_kinds_that_need_a_model_say_so():
    with pytest.raises(InvalidInput, match="of kind judge needs a model"):
        passes(Question(id="1", text="q", kind="judge", criteria="polite"), "a")


def test_digests_from_before_criteria_and_thresholds_still_hold():
    old = {"id": "1", "text": "q", "kind": "exact", "expected": "a", "slices": ["s"], "source": ""}
    assert parse(QuestionSet, {"name": "s", "questions": [old]}, "s").digest == digest_of([old])
    judged = Question(id="1", text="q", kind="judge", criteria="polite")
    other = judged.model_copy(update={"criteria": ("short",)})
    assert QuestionSet(name="s", questions=(judged,)).digest != QuestionSet(name="s", questions=(other,)).digest


def test_a_result_from_before_scores_has_one_by_passing():
    old = {"question_id": "1", "answer": "a", "passed": True, "latency_s": 0.1, "slices": [], "detail": ""}
    assert QuestionResult.model_validate(old).score == 1.0
    assert QuestionResult.model_validate_json(json.dumps({**old, "passed": False})).score == 0.0
    assert QuestionResult.model_validate({**old, "score": 0.25}).score == 0.25
