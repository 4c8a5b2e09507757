"""The starter's practice rows: seeded, honest about their passages, and never mixing held-out words into training."""

import itertools
import json
import random
import re

import pytest

from data_jobs.starter_corpus import PROBES, SKILLS, rows, vocabulary
from data_jobs.starter_lookup import ABSENT, Fact, passages_of, pronoun_form
from data_jobs.starter_values import KINDS, Maker, belongs
from data_jobs.starter_words import ADJECTIVES, ATTRIBUTES, COMMON, NOUNS, VERBS
from data_jobs.starter_worlds import HELDOUT_WORLD, TRAIN_WORLDS, WORLDS

ALL = dict.fromkeys(SKILLS, 1.0)


def taken(count, seed=1, mixture=ALL, split="train"):
    return list(itertools.islice(rows(seed, mixture, split), count))


def test_equal_seeds_give_equal_rows_and_other_seeds_other_rows():
    assert taken(50) == taken(50)
    assert taken(50) != taken(50, seed=2)


def test_an_unknown_skill_is_named_before_any_row_is_made():
    with pytest.raises(ValueError, match=r"no skill .juggle.*repeat"):
        next(rows(1, {"juggle": 1.0}))


@pytest.mark.parametrize("skill", sorted(PROBES))
def test_every_row_is_a_conversation_in_the_prompt_contract(skill):
    for row in taken(200, mixture={skill: 1.0}):
        roles = [message["role"] for message in row["messages"]]
        asked = roles[1:] if roles[0] == "system" else roles
        assert asked == ["user", "assistant"] * (len(asked) // 2)
        assert asked
        assert row["skill"] == skill
        assert all(message["content"].strip() for message in row["messages"])


def test_words_are_divided_by_their_letters_alone():
    words = [Maker(random.Random(seed), "train").invented() for seed in range(300)]
    held = [Maker(random.Random(seed), "heldout").invented() for seed in range(300)]
    assert all(belongs(word, "train") and not belongs(word, "heldout") for word in words)
    assert all(belongs(word, "heldout") for word in held)
    assert not set(words) & set(held)
    assert belongs("Talvo", "train") == belongs("talvo", "train")


@pytest.mark.parametrize("kind", ["invented", "name", "phrase"])
def test_no_heldout_entity_is_ever_drawn_for_training(kind):
    drawn = {split: {Maker(random.Random(seed), split).value(kind) for seed in range(2000)} for split in ("train", "heldout")}
    assert len(drawn["heldout"]) > 500
    assert not drawn["train"] & drawn["heldout"]


def test_heldout_entities_do_not_occur_as_words_in_training_rows():
    text = " ".join(m["content"] for row in taken(3000, mixture={"lookup": 1, "cite": 1, "keyvalue": 1}) for m in row["messages"])
    words = set(re.findall(r"[a-z]{5,}", text.lower()))
    makers = [Maker(random.Random(seed), "heldout") for seed in range(3000)]
    held = {maker.invented() for maker in makers} - {*COMMON, *ATTRIBUTES, *NOUNS, *ADJECTIVES, *VERBS}
    assert not {word for word in held if len(word) >= 5} & words


def test_the_heldout_world_is_never_practised():
    assert HELDOUT_WORLD in WORLDS
    assert HELDOUT_WORLD not in TRAIN_WORLDS
    marks = ("shines as far as", "lights", "first lit", "flashes")
    trained = " ".join(m["content"] for row in taken(3000, mixture={"lookup": 1, "cite": 1}) for m in row["messages"])
    probed = " ".join(m["content"] for row in taken(100, mixture={"cite_new_world": 1}) for m in row["messages"])
    assert not any(f" {mark} " in trained for mark in marks)
    assert any(f" {mark} " in probed for mark in marks)


def test_a_cited_value_stands_in_the_passage_it_cites():
    checked = 0
    for row in taken(600, mixture={"cite_two": 1, "cite_three": 1, "cite_new_world": 1}):
        *_, asked, answer = row["messages"]
        passages = dict(re.findall(r"^\[(\d)\] (.*)$", asked["content"], flags=re.MULTILINE))
        value, number = re.fullmatch(r"(.*) \[(\d)\]", answer["content"]).groups()
        assert value.lower() in passages[number].lower()
        checked += 1
    assert checked == 600


def test_passages_follow_the_prompt_contract_exactly():
    for row in taken(300, mixture={"lookup": 1, "cite": 1}):
        asked = next(message["content"] for message in row["messages"] if message["role"] == "user")
        assert re.fullmatch(r"Passages:\n(\[\d\] .+\n)+\nQuestion: .+", asked)


def test_what_the_passages_do_not_hold_is_answered_so_and_truly_missing():
    absent = 0
    for row in taken(1500, mixture={"lookup": 1}):
        messages = [m for m in row["messages"] if m["role"] != "system"]
        body = messages[0]["content"].rsplit("\n\nQuestion: ", 1)[0]
        for asked, answer in zip(messages[::2], messages[1::2], strict=True):
            if answer["content"] == ABSENT:
                absent += 1
                question = asked["content"].rsplit("Question: ", 1)[-1]
                assert question not in body
    assert absent > 50


def test_citations_are_given_only_when_asked_for():
    for row in taken(400, mixture={"lookup": 1}):
        answers = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
        assert not any(re.search(r" \[\d\]$", answer) for answer in answers)


def test_json_answers_parse_and_hold_only_the_keys_asked_for():
    for row in taken(200, mixture={"to_json": 1}):
        system = row["messages"][0]["content"]
        for message in row["messages"]:
            if message["role"] == "assistant":
                assert all(key in system for key in json.loads(message["content"]))


def test_a_filled_form_keeps_no_gap():
    for row in taken(300, mixture={"slots": 1, "letter": 1}):
        for message in row["messages"]:
            if message["role"] == "assistant":
                assert not re.search(r"\{(name|item|by|when|from|to|at)\}", message["content"])


def test_every_fact_is_dealt_to_exactly_the_passage_its_number_names():
    rng = random.Random(3)
    facts = [Fact(f"e{at}", "k", f"v{at}", f"The k of e{at} is v{at}.", f"What is the k of e{at}?") for at in range(6)]
    passages, numbers = passages_of(facts, rng, 3)
    assert len(passages) == 3
    for fact, number in zip(facts, numbers, strict=True):
        assert [fact.statement in passage for passage in passages].index(True) == number - 1


def test_a_pronoun_replaces_only_a_leading_entity():
    assert pronoun_form("The red lamp is open.", "the red lamp") == "It is open."
    assert pronoun_form("Osh made the red lamp.", "the red lamp") == "Osh made the red lamp."


@pytest.mark.parametrize("kind", sorted(set(KINDS)))
def test_every_kind_of_value_is_a_plain_line(kind):
    for seed in range(100):
        value = Maker(random.Random(seed), "train").value(kind)
        assert value
        assert "\n" not in value
        assert value == value.strip()


def test_practice_holds_none_of_the_agents_tasks():
    text = "\n".join(m["content"] for row in taken(4000) for m in row["messages"] if m["role"] == "assistant")
    for task in ("| wc", "grep -r", "find . -", "xargs rm", "lambda x:", "def f(", "return sum(", "your landlord", "the plumber"):
        assert task not in text


def test_the_tokenizer_material_holds_every_listed_word():
    text = " ".join(vocabulary(1, count=1))
    assert all(f" {word}" in text for word in COMMON)
