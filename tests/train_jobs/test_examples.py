"""Rows → token ids: the served prompt, loss on the answer alone, nothing cut."""

from pathlib import Path
from typing import Any

import pytest

from cluster.domain.conversations import Message
from cluster.domain.datasets import DpoRow, RouterRow, SftRow
from cluster.domain.prompts import prompt_ids, render
from cluster.errors import InvalidInput
from train_jobs import examples

ROW = SftRow(
    question="Find files over 5 MB in /tmp.",
    history=(Message(role="user", content="Hello."), Message(role="assistant", content="Yes?")),
    passages=("The disk is full.", "Logs lie in\n /var/log."),
    answer="find /tmp -size +5M",
    source="t",
)


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


def test_training_prompt_is_the_served_prompt_token_for_token(tokenizer: Any) -> None:
    example = examples.sft_example(tokenizer, "Be brief.", ROW)
    served = prompt_ids(tokenizer, render("Be brief.", ROW.question, ROW.history, ROW.passages))
    assert example["input_ids"][: len(served)] == served
    assert example["labels"][: len(served)] == [examples.IGNORED] * len(served)


def test_loss_is_on_the_answer_and_its_end_alone(tokenizer: Any) -> None:
    example = examples.sft_example(tokenizer, "", ROW)
    taught = [token for token in example["labels"] if token != examples.IGNORED]
    assert tokenizer.decode(taught) == "find /tmp -size +5M<|end|>"
    assert example["input_ids"][-len(taught) :] == taught


def test_both_answers_of_a_pair_follow_the_same_prompt(tokenizer: Any) -> None:
    row = DpoRow(question="q", chosen="yes", rejected="no", source="t")
    example = examples.dpo_example(tokenizer, "Be brief.", row)
    assert example["prompt_ids"] == prompt_ids(tokenizer, render("Be brief.", "q"))
    assert tokenizer.decode(example["chosen_ids"]) == "yes<|end|>"
    assert tokenizer.decode(example["rejected_ids"]) == "no<|end|>"


def test_a_row_that_does_not_fit_is_dropped_whole_and_counted(tokenizer: Any) -> None:
    long = ROW.model_copy(update={"answer": "find / " * 50})
    same = DpoRow(question="q", chosen="a", rejected="a", source="t")
    found = examples.tokenise([ROW, long, same], tokenizer, "", 100)
    assert len(found.rows) == 1
    assert found.dropped == {"longer than 100 tokens": 1, "chosen and rejected are the same": 1}


def test_no_row_left_is_one_sentence(tokenizer: Any) -> None:
    with pytest.raises(
        InvalidInput, match=r"No row is left to train on \(1 longer than 8 tokens\); give more rows or raise max_length"
    ):
        examples.tokenise([ROW], tokenizer, "", 8)
    with pytest.raises(InvalidInput, match=r"router.*cannot train an agent"):
        examples.tokenise([RouterRow(text="t", agent="a", source="s")], tokenizer, "", 64)


def test_a_template_that_rewrites_the_prompt_is_refused(tokenizer: Any, base: Path) -> None:
    from transformers import AutoTokenizer

    other = AutoTokenizer.from_pretrained(base)
    other.chat_template = "{% for m in messages %}{{ loop.revindex }}{{ m['content'] }}{% endfor %}"
    with pytest.raises(InvalidInput, match="does not render the prompt as a prefix"):
        examples.tokenise([ROW], other, "", 512)


def test_order_is_repeatable_fair_and_sorted_inside_steps() -> None:
    lengths = [10 + (index * 37) % 90 for index in range(100)]
    order = examples.step_order(lengths, per_step=8, steps=50, seed=3)
    assert order == examples.step_order(lengths, per_step=8, steps=50, seed=3)
    assert order != examples.step_order(lengths, per_step=8, steps=50, seed=4)
    assert len(order) == 400
    assert {order.count(index) for index in range(100)} == {4}
    padding = sum(
        8 * max(lengths[i] for i in order[at : at + 8]) - sum(lengths[i] for i in order[at : at + 8]) for at in range(0, 400, 8)
    )
    assert padding < 0.1 * sum(lengths[index] for index in order)


def test_order_of_fewer_rows_than_a_step_repeats_them() -> None:
    assert sorted(examples.step_order([1, 2, 3], per_step=6, steps=1, seed=0)) == [0, 0, 1, 1, 2, 2]


def test_rows_that_are_left_out_are_named(tokenizer: Any) -> None:
    long = SftRow(question="x " * 400, answer="y", source="mail 7")
    found = examples.tokenise([ROW, long, ROW, long], tokenizer, "", 300)
    assert found.dropped == {"longer than 300 tokens": 2}
    assert len(found.named) == 2
    assert found.named[0].startswith("Row 2 (mail 7) was left out: it has ")
    assert found.named[1].startswith("Row 4 (mail 7)")


def test_held_out_rows_are_none_that_are_trained_on() -> None:
    rows = [{"input_ids": [number % 40, 1], "labels": [1], "length": 2} for number in range(100)]
    taught, held = examples.split(rows, 0.25, seed=3)
    assert not {row["input_ids"][0] for row in taught} & {row["input_ids"][0] for row in held}
    assert len(held) == 10  # a quarter of the 40 different ones, each once
    assert len(taught) == sum(row["input_ids"][0] in {one["input_ids"][0] for one in taught} for row in rows)
    assert examples.split(rows, 0.25, seed=3) == (taught, held)
    assert examples.split(rows, 0.0, seed=3) == (rows, [])
    with pytest.raises(InvalidInput, match=r"cannot be split by eval_share 0\.5"):
        examples.split(rows[:1], 0.5, seed=3)
