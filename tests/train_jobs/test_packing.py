"""A packed step is the unpacked step: same loss, same gradient, on every architecture that is packed."""

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from train_jobs import packing
from train_jobs.examples import IGNORED
from train_jobs.trainers import answer_logps

SHAPE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
WINDOW = 6
CONFIGS: list[PretrainedConfig] = [
    Qwen2Config(**SHAPE),
    Qwen3Config(**SHAPE),
    LlamaConfig(**SHAPE),
    MistralConfig(**SHAPE, sliding_window=WINDOW),
    Gemma3TextConfig(**SHAPE, sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
]


def model_of(config: PretrainedConfig, attention: str) -> Any:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation=attention)
    torch.manual_seed(1)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    return model.eval()


def tokens(count: int) -> list[int]:
    return torch.randint(1, 97, (count,)).tolist()


def loss_alone(model: Any, ids: list[int], labels: list[int]) -> torch.Tensor:
    logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1]
    return cross_entropy(logits.float(), torch.tensor(labels[1:]), ignore_index=IGNORED, reduction="sum")


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.requires_grad}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_packed_rows_have_the_loss_and_gradient_of_rows_alone(config: PretrainedConfig) -> None:
    assert packing.packs(config)
    torch.manual_seed(2)
    rows = []
    for prompt, answer in ((5, 3), (17, 9), (1, 1), (8, 14)):
        ids = tokens(prompt + answer)
        rows.append({"input_ids": ids, "labels": [IGNORED] * prompt + ids[prompt:]})
    alone, together = model_of(config, "sdpa"), model_of(config, packing.NAME)
    expected = sum(loss_alone(alone, row["input_ids"], row["labels"]) for row in rows)
    batch = packing.pack_rows(rows)
    places = (batch["labels"][0, 1:] != IGNORED).nonzero()[:, 0]
    found = cross_entropy(packing.logits_at(together, batch, places), batch["labels"][0, 1:][places], reduction="sum")
    assert len(places) == 27
    assert torch.allclose(found, expected, rtol=1e-5)
    expected.backward()
    found.backward()
    before, after = gradients(alone), gradients(together)
    assert all(torch.allclose(after[name], before[name], rtol=1e-3, atol=1e-5) for name in before)
    assert sum(float(one.abs().sum()) for one in before.values()) > 1.0


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_a_pairs_answers_share_their_prompt_and_nothing_else(config: PretrainedConfig) -> None:
    torch.manual_seed(3)
    pairs = [
        {"prompt_ids": tokens(prompt), "chosen_ids": tokens(chosen), "rejected_ids": tokens(rejected)}
        for prompt, chosen, rejected in ((9, 4, 7), (3, 8, 2))
    ]
    pairs.append({"prompt_ids": tokens(6), "chosen_ids": (same := tokens(5)), "rejected_ids": same})
    alone, together = model_of(config, "sdpa"), model_of(config, packing.NAME)
    expected = torch.zeros(2, 3)
    for number, pair in enumerate(pairs):
        for side, name in enumerate(("chosen_ids", "rejected_ids")):
            labels = [IGNORED] * len(pair["prompt_ids"]) + pair[name]
            expected[side, number] = -loss_alone(alone, pair["prompt_ids"] + pair[name], labels)
    batch = packing.pack_pairs(pairs)
    assert batch["input_ids"].shape == (1, 9 + 4 + 7 + 3 + 8 + 2 + 6 + 5)  # prompts once, a replayed answer once
    assert batch["true_pair"].tolist() == [True, True, False]
    found = answer_logps(together, batch).view(2, 3)
    assert torch.allclose(found[0], expected[0], rtol=1e-4)
    assert torch.allclose(found[1, :2], expected[1, :2], rtol=1e-4)
    assert found[1, 2] == 0


def test_other_rows_change_nothing() -> None:
    torch.manual_seed(4)
    ids = tokens(12)
    row = {"input_ids": ids, "labels": [IGNORED] * 4 + ids[4:]}
    model = model_of(CONFIGS[0], packing.NAME)
    found = []
    for others in ([], [tokens(30)], [tokens(3), tokens(50)]):
        batch = packing.pack_rows([row, *({"input_ids": one, "labels": [IGNORED] * len(one)} for one in others)])
        found.append(packing.logits_at(model, batch, torch.arange(12)))
    assert torch.allclose(found[0], found[1], atol=1e-5)
    assert torch.allclose(found[0], found[2], atol=1e-5)


def test_an_architecture_that_mixes_tokens_elsewhere_is_not_packed() -> None:
    from transformers import MambaConfig

    assert not packing.packs(MambaConfig())
