"""What a recipe may get wrong, said in one sentence before any worker starts."""

import json
import shutil
from pathlib import Path
from typing import Any, Callable

import pytest
import yaml

from cluster.base_model import base_digest
from cluster.catalog import datasets, releases
from cluster.domain.agents import Agent
from cluster.domain.recipes import DpoRecipe, LoraRecipe, SftRecipe
from cluster.domain.releases import Release
from cluster.errors import InvalidInput, NotFound, RecipeError
from cluster.job_run import JobRun
from cluster.model_roles import FurtherBase
from cluster.settings import Settings
from train_jobs import deepspeed, lora, sft, training

Opener = Callable[..., JobRun]
ROW = {"kind": "sft", "question": "q", "answer": "a", "source": "t"}


@pytest.fixture
def rows(tmp_path: Path) -> str:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ROW) + "\n")
    return str(file)


def check(open_job: Opener, **recipe: Any) -> training.Plan:
    made = SftRecipe(**{"agent": "linux", **recipe})
    return training.check(open_job("train_jobs.sft", made), made)


def test_rows_of_a_file_become_a_dataset_that_a_release_can_name(open_job: Opener, base: Path, rows: str) -> None:
    plan = check(open_job, base=str(base), rows=rows)
    assert [(one.rows, one.kind) for one in plan.inputs] == [(1, "sft")]
    job = open_job("train_jobs.sft", plan.recipe)
    with job.catalog.reading() as work:
        assert datasets.get(work, plan.inputs[0].digest) == plan.inputs[0]


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"lora": {"rank": 64}}, "lora.rank 64 is more than the engine serves .engine.max_lora_rank 32"),
        ({"lora": {"target_modules": ["q_projj"]}}, "has no module 'q_projj' .lora.target_modules.; did you mean 'q_proj'?"),
        ({"lora": {"rank": 8, "layers": [0, 2]}}, "has no layer 2 .lora.layers.; its 2 layers are 0 to 1"),
        ({"agent": "linus"}, "no agent 'linus'; did you mean linux?"),
        ({"base": "/nowhere/at all"}, "Base '/nowhere/at all' is neither a directory nor a model id"),
        ({"parent": "linux@9.9.9"}, "has no release"),
        ({"rows": "/nowhere.jsonl"}, "There is no file '/nowhere.jsonl'"),
    ],
)
def test_one_sentence(open_job: Opener, base: Path, rows: str, wanted: dict[str, Any], sentence: str) -> None:
    with pytest.raises((InvalidInput, NotFound), match=sentence):
        check(open_job, **{"base": str(base), "rows": rows, **wanted})


def test_a_recipe_may_name_a_further_base_that_is_served(open_job: Opener, base: Path, rows: str) -> None:
    """By its name; the release is then of that base, and as wide as its engine takes."""
    further = FurtherBase.model_validate({"path": str(base), "name": "mini", "engine": {"max_lora_rank": 48}})
    recipe = SftRecipe.model_validate({"agent": "linux", "base": "mini", "rows": rows, "lora": {"rank": 48}})
    job = open_job("train_jobs.sft", recipe)
    models = job.settings.models.model_copy(update={"bases": (further,)})
    job.settings = job.settings.model_copy(update={"models": models})
    plan = training.check(job, recipe)
    assert (plan.base.name, plan.base.location, plan.base_digest) == ("mini", str(base), base_digest(further))
    with pytest.raises(RecipeError, match=r"lora.rank 64 is more than the engine serves .engine.max_lora_rank 48"):
        training.check(job, recipe.model_copy(update={"lora": LoraRecipe(rank=64)}))


def test_an_adapter_of_chosen_layers_names_its_modules(base: Path) -> None:
    config = lora.peft_config(LoraRecipe(rank=4, layers=(1,)), str(base))
    assert config.layers_to_transform == [1]
    modules = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert config.target_modules == modules  # "all-linear" would be refused together with layers


def test_a_rank_above_the_hidden_size_is_impossible(base: Path) -> None:
    with pytest.raises(RecipeError, match=r"lora.rank 65 is impossible on base 'tiny' .hidden size 64.; use at most 64"):
        lora.check(LoraRecipe(rank=65), str(base), "tiny", max_rank=128)


def test_an_empty_or_wrong_file_of_rows(open_job: Opener, base: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(InvalidInput, match=r"empty\.jsonl has no rows"):
        check(open_job, base=str(base), rows=str(empty))
    router = tmp_path / "router.jsonl"
    router.write_text('{"kind": "router", "text": "t", "agent": "linux", "source": "t"}\n')
    with pytest.raises(InvalidInput, match="row 1 is a router row; this job needs sft rows"):
        check(open_job, base=str(base), rows=str(router))


def test_a_dataset_of_another_kind(open_job: Opener, base: Path, rows: str) -> None:
    plan = check(open_job, base=str(base), rows=rows)
    recipe = DpoRecipe(agent="linux", base=str(base), datasets=(plan.inputs[0].name,))
    with pytest.raises(InvalidInput, match="holds sft rows; this job needs dpo rows"):
        training.check(open_job("train_jobs.dpo", recipe), recipe)


def test_an_adapter_of_another_base_is_refused(open_job: Opener, base: Path, rows: str, tmp_path: Path) -> None:
    other = shutil.copytree(base, tmp_path / "other")
    (other / "config.json").write_text((other / "config.json").read_text() + " ")
    job = open_job("train_jobs.sft", SftRecipe(agent="linux", rows=rows))
    with job.catalog.transaction() as work:
        if not releases.of_agent(work, "elsewhere"):
            card = Agent(name="elsewhere")
            releases.add(
                work,
                Release(
                    agent="elsewhere",
                    version="0.1.0",
                    card=card,
                    adapter_uri="x",
                    adapter_digest="x",
                    base_model="old",
                    base_digest="0" * 64,
                ),
            )
    with pytest.raises(RecipeError, match=r"elsewhere@0.1.0 is an adapter of base 'old' \(000000000000\), not of 'other'"):
        check(open_job, base=str(other), rows=rows, parent="elsewhere@0.1.0")


def test_an_unknown_key_ends_the_job_before_it_begins(
    trainers_home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TREADLE_HOME", str(trainers_home.home))
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({"agent": "linux", "rows": "r.jsonl", "learning_rat": 0.1}))
    assert sft.main(["--recipe", str(file)]) == 2
    assert f"{file}: unknown key 'learning_rat'; did you mean 'learning_rate'?" in capsys.readouterr().err


def test_every_number_of_deepspeed_is_resolved() -> None:
    recipe = SftRecipe(agent="a", rows="r", workers=2, batch_size=16, micro_batch_size=4, zero=3, offload=True)
    config = deepspeed.zero_config(recipe)
    assert config is not None
    assert "auto" not in json.dumps(config)
    numbers = [config[key] for key in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")]
    assert numbers == [16, 4, 2]
    assert deepspeed.zero_config(recipe.model_copy(update={"zero": 0})) is None
