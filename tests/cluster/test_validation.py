import pytest
from pydantic import ValidationError

from cluster.domain.validation import CitesRule, JsonRule, LengthRule, PatternRule, check, citations

TIMELINE = PatternRule(kind="must_match", name="timeline", patterns=(r"within \d+ (hours|days)",))


@pytest.mark.parametrize(
    ("rule", "answer", "passages", "good"),
    [
        (TIMELINE, "You hear from us WITHIN 4 hours.", 0, True),
        (TIMELINE, "You hear from us soon.", 0, False),
        (PatternRule(kind="must_not_match", name="blame", patterns=("your fault",)), "It is your fault.", 0, False),
        (LengthRule(min_chars=3, max_chars=5), "abcdef", 0, False),
        (LengthRule(min_chars=3, max_chars=6), "abcdef", 0, True),
        (CitesRule(), "At 9:00. [1]", 2, True),
        (CitesRule(), "At 9:00. [3]", 2, False),
        (CitesRule(), "At 9:00.", 2, False),
        (CitesRule(), "At 9:00.", 0, True),
        (JsonRule(keys=("a",)), '{"a": 1}', 0, True),
        (JsonRule(keys=("a",)), '{"b": 1}', 0, False),
        (JsonRule(), "[1]", 0, False),
    ],
)
def test_rules(rule, answer, passages, good):
    verdict = check([rule], answer, passages)
    assert verdict.passed is good
    assert verdict.failures == (() if good else (rule.name,))


def test_every_broken_rule_is_named():
    rules = [TIMELINE, LengthRule(min_chars=100)]
    assert check(rules, "short").failures == ("timeline", "length")


def test_a_pattern_that_re2_refuses_is_named():
    with pytest.raises(ValidationError, match="not valid RE2"):
        PatternRule(kind="must_match", name="x", patterns=(r"(?=lookahead)",))


def test_a_pattern_that_backtracks_elsewhere_is_linear_here():
    rule = PatternRule(kind="must_not_match", name="evil", patterns=(r"(a+)+$",))
    assert check([rule], "a" * 50_000 + "b").passed


def test_citations_in_order_of_first_appearance():
    assert citations("see [2], [1] and [2]") == (2, 1)
