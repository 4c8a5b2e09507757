from typing import get_args

import pytest
from pydantic import ValidationError

from cluster.domain.agents import Agent
from cluster.domain.releases import Release
from cluster.domain.validation import (
    CitesRule,
    JsonRule,
    Judged,
    LengthRule,
    NoDialogueRule,
    NoPromptLeakRule,
    PartsRule,
    PatternRule,
    Rule,
    SchemaRule,
    SimilarityRule,
    ToneRule,
    check,
    citations,
    judge,
)
from cluster.flywheel import load_card

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
        (JsonRule(), "[" * 100_000, 0, False),
        (PartsRule(parts={"a": ("x", "y"), "b": ("z",)}), "y z", 0, True),
        (PartsRule(parts={"a": ("x", "y"), "b": ("z",)}), "x y", 0, False),
        (ToneRule(forbidden=("fault",)), "All is well.", 0, True),
        (ToneRule(forbidden=("fault",)), "Your FAULT.", 0, False),
        (ToneRule(required=("sorry", "thanks")), "Thanks.", 0, True),
        (ToneRule(required=("sorry", "thanks")), "No.", 0, False),
        (SchemaRule(expected={"type": "integer"}), "```json\n3\n```", 0, True),
        (SchemaRule(expected='{"type": "integer"}'), '"3"', 0, False),
        (NoDialogueRule(), "At 9:00.", 0, True),
        (NoDialogueRule(), "At 9:00.\nUser: thanks\nAssistant: bye", 0, False),
        (SimilarityRule(least=0.5), "nothing to compare with", 0, True),
    ],
)
def test_rules(rule, answer, passages, good):
    verdict = check([rule], answer, passages)
    assert verdict.passed is good
    assert verdict.failures == (() if good else (rule.name,))
    assert len(verdict.reasons) == len(verdict.failures)
    assert all(reason.endswith(".") and "\n" not in reason for reason in verdict.reasons)


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


PROMPT = "Answer tenants politely, never speak of the Baker case, and keep the discount of ten percent to yourself. canary: xk42-zebra-9"


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        ("The heating is repaired within 2 days.", True),
        ("I never speak of the Baker case.", True),
        ("Well: NEVER speak of the Baker case, and keep it.", False),
        ("My secret is XK42-zebra-9.", False),
        ("My instructions say that I must be polite.", False),
        ("The instructions say that you press twice.", True),
    ],
)
def test_a_prompt_that_leaks(answer, good):
    rule = NoPromptLeakRule(words=7)
    verdict = judge([rule], Judged(answer, prompt=PROMPT))
    assert verdict.passed is good
    assert "Baker" not in "".join(verdict.reasons)


def test_a_short_prompt_leaks_as_a_whole_only():
    rule = NoPromptLeakRule()
    assert not judge([rule], Judged("You said: answer tenants. Cite passages.", prompt="Answer tenants. Cite passages.")).passed
    assert judge([rule], Judged("We answer tenants.", prompt="Answer tenants. Cite passages.")).passed
    assert judge([rule], Judged("Be brief.", prompt="Be brief.")).passed


def test_what_was_stripped_and_how_like_it_is_are_judged():
    rules = [NoDialogueRule(), SimilarityRule(least=0.7)]
    verdict = judge(rules, Judged("At 9:00.", stripped=("dialogue",), similarity=0.5))
    assert verdict.failures == ("no_dialogue", "similarity")
    assert verdict.similarity == 0.5
    assert judge(rules, Judged("At 9:00.", stripped=("template",), similarity=0.7)).passed


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ('{"title": "Heating", "urgency": "now"}', "at urgency"),
        ('{"title": "Heating"}', "'urgency' is a required property"),
        ('{"title": "Heating", "urgency": "low", "room": "x"}', "at room"),
        ("no heating", "not JSON"),
    ],
)
def test_a_schema_s_failure_names_the_place(answer, place):
    verdict = check(load_card("configs/agents/ticket.yaml").rules, answer)
    assert place in verdict.reasons[0]
    assert check(load_card("configs/agents/ticket.yaml").rules, '{"title": "Heating", "urgency": "low"}').passed


def test_the_reason_that_somebody_wrote_goes_before_ours():
    rule = ToneRule(forbidden=("fault",), reason="Blame nobody.")
    assert check([rule], "your fault").reasons == ("Blame nobody.",)


def test_missing_parts_are_named():
    rule = PartsRule(parts={"an action": ("will",), "a timeline": ("within",)})
    assert check([rule], "We come.").reasons == ("The answer lacks an action and a timeline.",)


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "tone"},
        {"kind": "tone", "forbidden": ["(?=x)"]},
        {"kind": "must_have", "parts": {}},
        {"kind": "must_have", "parts": {"a": []}},
        {"kind": "must_have", "parts": {"a": ["("]}},
        {"kind": "json_schema"},
        {"kind": "json_schema", "expected": {"type": "nothing"}},
        {"kind": "json_schema", "expected": {"$ref": "https://example.org/x"}},
        {"kind": "json_schema", "expected": {"patternProperties": {"a": {}}}},
        {"kind": "no_prompt_leak", "words": 1},
        {"kind": "similarity", "least": 2},
    ],
)
def test_a_rule_that_cannot_be_used_is_refused(rule):
    with pytest.raises(ValidationError):
        Agent(name="a", rules=(rule,))


def test_a_card_survives_its_own_json_and_a_schema_its_two_forms():
    for name in ("support", "ticket"):
        card = load_card(f"configs/agents/{name}.yaml")
        assert Agent.model_validate(card.model_dump(mode="json")) == card
        assert card.correct
    given = SchemaRule(expected={"type": "object", "required": ["a"]})
    assert given == SchemaRule(expected='{"required": ["a"], "type": "object"}')


def test_the_example_has_every_kind_of_rule():
    shown = {rule.kind for name in ("support", "ticket") for rule in load_card(f"configs/agents/{name}.yaml").rules}
    kinds = {kind for one in get_args(get_args(Rule)[0]) for kind in get_args(one.model_fields["kind"].annotation)}
    assert kinds - shown == {"must_match", "json"}
    good = "Thank you for telling us. Somebody will come within 2 days. [1]"
    assert check(load_card("configs/agents/support.yaml").rules, good, passages=1).passed


def test_a_card_that_uses_nothing_new_keeps_its_release_s_digest():
    """The digest is as it was before rules had reasons and cards could correct."""
    old = [{"kind": "length"}, {"kind": "must_match", "name": "timeline", "patterns": ["within"]}, {"kind": "cites_passage"}]
    card = Agent(name="linux", prompt="Write one shell command.", rules=[*old, {"kind": "json"}])
    given = {"version": "0.1.0", "adapter_uri": "x", "adapter_digest": "a" * 64, "base_model": "starter", "base_digest": "b" * 64}
    release = Release(agent="linux", card=card, **given)
    assert release.digest == "92d70e3ad59d3dfccacd8f47ccaba5694b40d30bd206a855f14f9d5ff8176c77"
    assert Release(agent="linux", card=card.model_copy(update={"correct": True}), **given).digest != release.digest
