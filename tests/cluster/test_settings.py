from pathlib import Path

import pytest
import yaml

from cluster.domain.recipes import RECIPES, SftRecipe
from cluster.errors import RecipeError, SettingsError
from cluster.settings import ROOT, expand, load_recipe, load_settings


@pytest.mark.parametrize("profile", ["laptop", "gpu", "cluster"])
def test_every_shipped_profile_loads(home, profile):
    assert load_settings(ROOT / "configs" / "treadle.yaml", profile).profile == profile


def test_the_home_holds_the_defaults(settings, home):
    assert settings.catalog_url == f"sqlite:///{home}/catalog.db"
    assert settings.models.base.location == str(ROOT / "models" / "starter")


def test_placeholders():
    env = {"A": "1"}
    assert expand({"x": ["${A}", "${B:-two}", 3]}, env, "f") == {"x": ["1", "two", 3]}
    with pytest.raises(SettingsError, match="the environment has no C"):
        expand("${C}", env, "f")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("profile: laptop\nprofiles: {laptop: {engin: {}}}", "unknown key 'engin'; did you mean 'engine'"),
        (
            "profile: laptop\nprofiles: {laptop: {engine: {max_lora_rnk: 3}}}",
            "unknown key 'engine.max_lora_rnk'; did you mean 'max_lora_rank'",
        ),
        ("profile: lap\nprofiles: {laptop: {}}", "there is no profile 'lap'; did you mean 'laptop'"),
        ("profil: x\nprofiles: {laptop: {}}", "unknown key 'profil'; did you mean 'profile'"),
        ("profile: [", "is not YAML"),
        ("profile: laptop\nprofiles: {laptop: {serve: {port: 99999}}}", "'serve.port' is 99999"),
    ],
    ids=["part", "nested", "profile", "top", "yaml", "value"],
)
def test_a_wrong_file_is_one_sentence_with_its_name(home, tmp_path, text, says):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert says in caught.value.message
    assert str(file) in caught.value.message
    assert "\n" not in caught.value.message


def test_a_recipe_with_a_wrong_key_names_the_nearest(tmp_path):
    file = tmp_path / "sft.yaml"
    file.write_text("agent: linux\ndatasets: [x]\nlora: {rnk: 8}\n")
    with pytest.raises(RecipeError, match=r"sft.yaml: unknown key 'lora.rnk'; did you mean 'rank'"):
        load_recipe(SftRecipe, file)


def test_every_config_file_is_yaml_and_every_training_recipe_a_recipe():
    for file in (ROOT / "configs").rglob("*.yaml"):
        assert yaml.safe_load(file.read_text()) is not None, file
    words = {
        "sft": "train_jobs.sft",
        "dpo": "train_jobs.dpo",
        "router": "train_jobs.router_head",
        "evaluate": "train_jobs.evaluate",
        "gate": "train_jobs.gate",
        "export": "train_jobs.export",
    }
    seen = 0
    for file in sorted((ROOT / "configs" / "train").glob("*.yaml")):
        job = words.get(file.stem.split("_")[0])
        if job:
            load_recipe(RECIPES[job], file)
            seen += 1
    assert seen >= 4


def test_the_cluster_launcher_file_names_what_ray_needs():
    value = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    assert value["head_node_type"] in value["available_node_types"]
    assert value["provider"]["type"]
    assert any("make setup PROFILE=gpu" in command for command in value["setup_commands"])
    for mount in value["file_mounts"].values():
        assert (ROOT / mount).exists()


def test_locks_name_no_index_and_pin_everything():
    for name in ("cpu", "gpu"):
        lines = (ROOT / "locks" / f"{name}.txt").read_text().splitlines()
        pins = [line for line in lines if line and not line.startswith(("#", " "))]
        assert not [line for line in lines if "://" in line]
        assert all("==" in pin for pin in pins)


def test_home_defaults_to_a_directory_of_the_user(monkeypatch):
    monkeypatch.delenv("TREADLE_HOME", raising=False)
    monkeypatch.delenv("TREADLE_SETTINGS", raising=False)
    assert load_settings().home == Path.home() / ".treadle"


def test_keys_that_do_not_go_together_are_one_sentence_without_the_whole_recipe(tmp_path):
    file = tmp_path / "gate.yaml"
    file.write_text("challenger: linux@1.0.0\npromote: false\nwaive: it must\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(RECIPES["train_jobs.gate"], file)
    assert caught.value.message == f"{file}: waive promotes and promote is false; leave one of them out."
