"""The reference's log-probabilities: measured once, kept under what they depend on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from cluster.artifacts import Artifacts
from train_jobs import packing, reference

PAIRS: list[dict[str, Any]] = [
    {"prompt_ids": [5, 6, 7, 8], "chosen_ids": [9, 10, 11], "rejected_ids": [12], "length": 7},
    {"prompt_ids": [20], "chosen_ids": [21, 22], "rejected_ids": [23, 24, 25, 26], "length": 5},
    {"prompt_ids": [30, 31], "chosen_ids": [32], "rejected_ids": [32], "length": 3},
]


@pytest.fixture(scope="module")
def model(base: Path) -> Any:
    found = AutoModelForCausalLM.from_pretrained(base, attn_implementation=packing.NAME)
    return get_peft_model(found, LoraConfig(r=4, target_modules="all-linear"))


def alone(model: Any, prompt: list[int], answer: list[int]) -> float:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0]
    each = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return float(each[range(len(answer)), answer].sum())


def test_measured_figures_are_those_of_each_answer_alone(model: Any) -> None:
    chosen, rejected = reference.measure(model, PAIRS, Accelerator(cpu=True))
    model.eval()
    assert chosen == pytest.approx([alone(model, one["prompt_ids"], one["chosen_ids"]) for one in PAIRS], rel=1e-4)
    assert rejected[:2] == pytest.approx([alone(model, one["prompt_ids"], one["rejected_ids"]) for one in PAIRS[:2]], rel=1e-4)
    assert rejected[2] == 0.0  # a replayed row has one answer


def test_they_are_kept_and_found_again(tmp_path: Path) -> None:
    artifacts = Artifacts(str(tmp_path))
    key = reference.key_of(PAIRS, "base", None, "float32")
    assert reference.known(artifacts, key, 3) is None
    reference.keep(artifacts, key, ([-1.0, -2.0, -3.0], [-4.0, -5.0, 0.0]))
    assert reference.known(artifacts, key, 3) == ([-1.0, -2.0, -3.0], [-4.0, -5.0, 0.0])
    assert reference.known(artifacts, key, 4) is None
    file = next((tmp_path / "derived").rglob("*.npy"))
    file.write_bytes(file.read_bytes()[:-3])
    assert reference.known(artifacts, key, 3) is None


def test_the_key_is_all_they_depend_on() -> None:
    key = reference.key_of(PAIRS, "base", None, "float32")
    other = [{**PAIRS[0], "rejected_ids": [13]}, *PAIRS[1:]]
    keys = {
        key,
        reference.key_of(other, "base", None, "float32"),
        reference.key_of(PAIRS, "base2", None, "float32"),
        reference.key_of(PAIRS, "base", "parent", "float32"),
        reference.key_of(PAIRS, "base", None, "4bit"),
    }
    assert len(keys) == 5
    assert reference.key_of([{**one, "length": 99} for one in PAIRS], "base", None, "float32") == key
