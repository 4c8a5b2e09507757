"""What a search space may get wrong, said in one sentence with the field and the nearest valid one."""

from pathlib import Path
from typing import Any

import pytest

from cluster.domain import tuning
from cluster.domain.recipes import SftRecipe, TuneRecipe
from cluster.errors import RecipeError
from cluster.settings import ROOT, load_recipe, whole_tune_recipe

BASE = {"agent": "linux", "rows": "r.jsonl"}


def searched(space: dict[str, Any], base: dict[str, Any] | None = None, **more: Any) -> TuneRecipe:
    return TuneRecipe.model_validate({"base": {**BASE, **(base or {})}, "space": space, **more})


@pytest.mark.parametrize(
    ("space", "base", "sentence"),
    [
        ({"lora.rnk": {"values": [8, 16]}}, {}, r"space: the recipe has no field 'lora.rnk'; did you mean 'lora.rank'\?"),
        ({"learning_rat": {"low": 1e-4, "high": 1e-2}}, {}, r"no field 'learning_rat'; did you mean 'learning_rate'\?"),
        ({"beta": {"low": 0.1, "high": 1}}, {}, "no field 'beta'"),
        ({"lora.rank": {"values": [8, 0]}}, {}, "'lora.rank' cannot be 0: input should be greater than or equal to 1"),
        ({"lora.rank": {"low": 1.5, "high": 8}}, {}, "'lora.rank' is a whole number; 1.5 is none"),
        ({"lora.target_modules": {"low": 1, "high": 2}}, {}, "'lora.target_modules' is no number; give 'values'"),
        ({"agent": {"values": ["a", "b"]}}, {}, "'agent' is the same in all trials"),
        ({"lora.rank": {"values": [8, 16]}}, {"parent": "champion"}, "shape of an adapter cannot be searched while it continues"),
        ({"batch_size": {"values": [8, 12]}}, {"batch_size": 8, "micro_batch_size": 8}, "'batch_size' cannot be 12: batch_size 12 must"),
    ],
)  # fmt: skip
def test_one_sentence(space: dict[str, Any], base: dict[str, Any], sentence: str) -> None:
    recipe = searched(space, base)
    with pytest.raises(RecipeError, match=sentence):
        tuning.check_space(recipe, tuning.base_recipe(recipe))


def test_a_file_with_a_wrong_key_or_a_wrong_span(tmp_path: Path) -> None:
    file = tmp_path / "tune.yaml"
    file.write_text("base: {agent: linux, rows: r}\nspace: {learning_rate: {low: 2, high: 1}}\n")
    with pytest.raises(RecipeError, match="low 2 must be less than high 1"):
        load_recipe(TuneRecipe, file)
    file.write_text("base: {agent: linux, rows: r}\nspce: {learning_rate: {low: 1, high: 2}}\n")
    with pytest.raises(RecipeError, match="unknown key 'spce'; did you mean 'space'"):
        load_recipe(TuneRecipe, file)


@pytest.mark.parametrize(
    ("more", "base", "sentence"),
    [
        ({"metric": "eval_reward_accuracy"}, {}, "is of preference pairs"),
        ({"metric": "eval_exact", "job": "dpo"}, {}, "is of answers"),
        ({}, {"workers": 2}, r"trained by one worker; set workers \(now 2\) to 1"),
        ({}, {"lerning_rate": 1}, "base: unknown key 'lerning_rate'; did you mean 'learning_rate'"),
    ],
)
def test_a_base_that_cannot_be_searched(more: dict[str, Any], base: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        tuning.base_recipe(searched({"learning_rate": {"low": 1, "high": 2}}, base, **more))


def test_a_trial_is_the_base_with_its_values() -> None:
    space = {
        "lora.target_modules": {"values": ["all-linear", ["q_proj"]]},
        "lora.layers": {"values": [None, [1, 2]]},
        "max_steps": {"low": 5, "high": 9},
    }
    recipe = searched(space)
    base = tuning.base_recipe(recipe)
    tuning.check_space(recipe, base)
    picked = {"lora.target_modules": tuning.category(("q_proj",)), "lora.layers": tuning.category([1, 2]), "max_steps": 7}
    trial = tuning.with_values(base, tuning.chosen(recipe, picked))
    assert (trial.lora.target_modules, trial.lora.layers, trial.max_steps) == (("q_proj",), (1, 2), 7)
    assert (trial.eval_share, trial.eval_every, trial.checkpoint_every) == (0.2, 25, 25)
    assert tuning.most_steps(recipe, base) == 9


def test_the_shipped_search_is_one() -> None:
    recipe = whole_tune_recipe(load_recipe(TuneRecipe, ROOT / "configs" / "train" / "tune.yaml"))
    base = tuning.base_recipe(recipe)
    tuning.check_space(recipe, base)
    assert isinstance(base, SftRecipe)
    assert base.agent == "linux"
