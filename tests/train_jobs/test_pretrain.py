"""The pretrain job: recipe, tokenizer, masks, measuring, resuming, and the shipped starter itself."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer

from train_jobs import pretrain
from train_jobs.practice import IGNORED, PracticeStream, collate, encode, source
from train_jobs.pretrain import ThreadChoice, Trainer, measure, replace_file
from train_jobs.pretrain_recipe import PretrainRecipe
from train_jobs.starter_tokenizer import SPECIALS, train_tokenizer

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "models" / "starter"
GIVEN = yaml.safe_load((ROOT / "configs" / "train" / "pretrain_starter.yaml").read_text())
TALK = [
    {"role": "system", "content": "Cite the passage."},
    {"role": "user", "content": "Passages:\n[1] Osh is 3 km long.\n\nQuestion: How long is Osh?"},
    {"role": "assistant", "content": "3 km [1]"},
    {"role": "user", "content": "and again?"},
    {"role": "assistant", "content": "3 km [1]"},
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([message["content"] for message in TALK] * 20, 300)


@pytest.fixture
def recipe(tmp_path):
    small = {"width": 32, "layers": 1, "heads": 1, "key_value_heads": 1, "feed_forward": 32, "vocab_size": 400}
    quick = {"minutes": 0.05, "decay_minutes": 0.02, "measure_rows": 4, "batch_tokens": 1024, "measured": ["keyvalue"]}
    return PretrainRecipe.model_validate(GIVEN | small | quick | {"out": tmp_path / "out", "work": tmp_path / "work"})


def test_the_shipped_recipe_is_valid_and_an_unknown_key_is_not():
    assert PretrainRecipe.model_validate(GIVEN).width == 192
    with pytest.raises(ValidationError, match="momentun"):
        PretrainRecipe.model_validate(GIVEN | {"momentun": 0.9})


def test_sources_are_found_by_name():
    assert next(source(GIVEN["corpus"])(1, {"repeat": 1.0}))["skill"] == "repeat"
    with pytest.raises(ModuleNotFoundError):
        source("no_such_module:rows")


@pytest.mark.parametrize("text", ["naïve ☃ 漢字 e\u0301", "\r\n\t  x ", "find /var/log -name '*.txt'", "3,400", "\x00\ufffd🙂"])
def test_any_text_survives_a_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_digits_stand_alone_and_specials_come_first(tokenizer):
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("2026")) == list("2026")
    assert tokenizer.convert_ids_to_tokens(list(range(5))) == SPECIALS


def test_fast_encoding_equals_the_chat_template(tokenizer):
    rendered = tokenizer.apply_chat_template(TALK, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    ids, answers = encode(tokenizer, TALK)
    assert ids == rendered["input_ids"]
    assert [int(answer > 0) for answer in answers] == rendered["assistant_masks"]
    assert set(answers) == {0, 1, 2}


def test_labels_are_the_next_answer_tokens_and_weigh_less_in_long_answers(tokenizer):
    ids, answers = encode(tokenizer, TALK)
    batch = collate([(ids, answers)], pad=0, pool=7)
    learnt = batch.labels[0] != IGNORED
    text = tokenizer.decode(batch.labels[0][learnt])
    assert text == "3 km [1]<|end|>3 km [1]<|end|>"
    assert torch.all(batch.ids[0, 1:][learnt[:-1]] == batch.labels[0][learnt])
    assert batch.weights[0][learnt].pow(-2).round().unique().tolist() == [answers.count(1)]
    assert batch.ids.shape[1] % 8 == 0
    assert batch.pool == 7


def test_the_stream_is_a_function_of_seed_and_pool(recipe, tokenizer):
    first, again = (next(iter(PracticeStream(recipe, tokenizer, 5))) for _ in range(2))
    other = next(iter(PracticeStream(recipe, tokenizer, 6)))
    assert torch.equal(first.ids, again.ids)
    assert first.pool == 5
    assert first.ids.shape != other.ids.shape or not torch.equal(first.ids, other.ids)
    assert first.ids.numel() <= recipe.batch_tokens


def test_a_model_that_learnt_nothing_measures_zero(recipe, tokenizer):
    trainer = Trainer(recipe, tokenizer)
    assert measure(trainer.average, tokenizer, recipe) == {"keyvalue": 0.0}


def test_a_checkpoint_resumes_to_the_same_next_step(recipe, tokenizer, tmp_path):
    batches = [batch for batch, _ in zip(PracticeStream(recipe, tokenizer, 0), range(4), strict=False)]
    trainer = Trainer(recipe, tokenizer)
    for batch in batches[:3]:
        trainer.step(batch)
    trainer.save(tmp_path / "checkpoint.pt")
    taken_up = Trainer(recipe, tokenizer)
    taken_up.load(tmp_path / "checkpoint.pt")
    assert (taken_up.steps, taken_up.tokens, taken_up.pool) == (trainer.steps, trainer.tokens, trainer.pool + 1)
    assert taken_up.step(batches[3]) == pytest.approx(trainer.step(batches[3]), rel=1e-3)


def test_the_rate_falls_to_zero_at_the_end(recipe, tokenizer):
    trainer = Trainer(recipe, tokenizer)
    trainer.steps, trainer.seconds = 1000, recipe.minutes * 60
    before = trainer.model.lm_head.weight.clone()
    trainer.step(next(iter(PracticeStream(recipe, tokenizer, 0))))
    assert torch.equal(before, trainer.model.lm_head.weight)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_text("old")

    def fails(part):
        part.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(path, fails)
    assert path.read_text() == "old"


def test_threads_follow_the_faster_count():
    choice = ThreadChoice(2)
    for step in range(6):
        choice.before(step)
        choice.after(step, 1.0 if choice.using == 1 else 3.0)
    choice.before(6)
    assert choice.using == 1


def test_a_short_run_exports_a_model_that_loads(recipe):
    figures = pretrain.run(recipe, resume=False)
    loaded = AutoModelForCausalLM.from_pretrained(recipe.out)
    assert loaded.config.model_type == "qwen3"
    assert figures["steps"] > 0
    assert json.loads((recipe.out / "figures.json").read_text()) == figures
    again = pretrain.run(recipe.model_copy(update={"minutes": 0.08}), resume=True)
    assert again["steps"] > figures["steps"]


def test_the_shipped_starter_keeps_its_contract():
    tokenizer, model = AutoTokenizer.from_pretrained(STARTER), AutoModelForCausalLM.from_pretrained(STARTER)
    assert (STARTER / "model.safetensors").stat().st_size <= 12_000_000
    assert model.config.max_position_embeddings == 1024
    assert model.config.tie_word_embeddings
    assert tokenizer.convert_ids_to_tokens(list(range(5))) == SPECIALS
    assert model.config.eos_token_id == tokenizer.eos_token_id == 1
    text = tokenizer.apply_chat_template(TALK[:2], tokenize=False, add_generation_prompt=True)
    assert text == f"<|system|>{TALK[0]['content']}<|end|><|user|>{TALK[1]['content']}<|end|><|assistant|>"


def test_the_shipped_starter_does_what_its_card_says():
    """The shipped figures, measured afresh on other held-out rows: each within a sampling error of what is claimed."""
    tokenizer, model = AutoTokenizer.from_pretrained(STARTER), AutoModelForCausalLM.from_pretrained(STARTER).eval()
    claimed = json.loads((STARTER / "figures.json").read_text())["exact_match"]
    recipe = PretrainRecipe.model_validate(GIVEN | {"measure_rows": 64, "seed": 99, "measured": ["cite_two", "repeat"]})
    found = measure(model, tokenizer, recipe)
    assert all(found[skill] >= claimed[skill] - 0.15 for skill in found)
