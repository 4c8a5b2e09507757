"""What models write, read."""

import json

import pytest

from cluster.domain.documents import Passage
from data_jobs.synthesis_prompts import Malformed, asking, judging, pairs_in, repairing, score_in

PAIR = {"question": " q? ", "answer": "a", "span": "s"}
PASSAGE = Passage(id="d.0", document_id="d", corpus="c", number=0, text="{braces} and all", start=0, end=16, heading="H > {x}")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"pairs": [PAIR]}),
        json.dumps([PAIR]),
        json.dumps(PAIR),
        "Here you are:\n```json\n" + json.dumps({"pairs": [PAIR]}, indent=1) + "\n```\nAnything else?",
    ],
)
def test_pairs_are_found_in_what_models_write_around_them(text: str) -> None:
    (found,) = pairs_in(text, "qa", 3)
    assert (found.kind, found.question, found.answer, found.span) == ("qa", "q?", "a", "s")


def test_no_more_pairs_than_asked_for() -> None:
    assert len(pairs_in(json.dumps({"pairs": [PAIR] * 5}), "qa", 2)) == 2
    assert pairs_in('{"pairs": []}', "qa", 2) == []


def test_a_reasoning_answer_has_its_parts_labelled() -> None:
    value = {"question": "q", "analyse": "1", "plan": "2", "execute": "3", "verify": "4", "span": "s"}
    assert pairs_in(json.dumps([value]), "reasoning", 1)[0].answer == "Analyse: 1\nPlan: 2\nExecute: 3\nVerify: 4"
    with pytest.raises(Malformed, match='no text under "plan"'):
        pairs_in(json.dumps([{**value, "plan": ["2"]}]), "reasoning", 1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON object"),
        ("I cannot.", "no JSON object"),
        ('{"pairs": [{"question": "q', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"answers": []}', 'no list under "pairs"'),
        ('{"pairs": {"question": "q"}}', 'no list under "pairs"'),
        ('{"pairs": ["q"]}', "pair 1 is no object"),
        (json.dumps([PAIR, {**PAIR, "span": None}]), 'pair 2 has no text under "span"'),
    ],
)
def test_what_cannot_be_read_says_why(text: str, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        pairs_in(text, "qa", 3)


@pytest.mark.parametrize(("text", "score"), [('{"score": 4}', 4), ('{"score": "5", "why": ""}', 5), ('{"score": 3.5}', 3)])
def test_scores(text: str, score: int) -> None:
    assert score_in(text) == score


@pytest.mark.parametrize("text", ["5", '{"score": 6}', '{"score": true}', '{"score": "high"}', "[4]", '{"score": NaN}'])
def test_what_is_no_score(text: str) -> None:
    with pytest.raises(Malformed):
        score_in(text)


def test_requests_show_the_passage_whatever_is_in_it() -> None:
    for chat in (
        asking(PASSAGE, "qa", 2),
        asking(PASSAGE, "reasoning", 2),
        judging(pairs_in(json.dumps(PAIR), "qa", 1)[0], PASSAGE),
    ):
        assert [message["role"] for message in chat] == ["system", "user"]
        assert "Passage from H > {x}:\n\n<passage>\n{braces} and all\n</passage>" in chat[1]["content"]
    assert '{"pairs": [{"question": …' in asking(PASSAGE, "qa", 2)[1]["content"]
    repair = repairing(asking(PASSAGE, "qa", 2), "x" * 9000, "it is not JSON", cut=True)
    assert len(repair[2]["content"]) == 4000
    assert "it is not JSON. It was cut off" in repair[3]["content"]
