import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.base_model import base_digest, base_of, base_role, engine_of
from cluster.domain.recipes import RECIPES, SftRecipe
from cluster.errors import RecipeError, SettingsError
from cluster.model_roles import EngineSettings, FurtherBase
from cluster.settings import ROOT, Settings, expand, load_recipe, load_settings


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


def with_bases(folder: Path, *bases: dict[str, Any]) -> Settings:
    """The laptop's settings with these bases beside the starter."""
    roles = yaml.safe_load((ROOT / "configs" / "models.yaml").read_text())
    (folder / "models.yaml").write_text(yaml.safe_dump({**roles, "bases": list(bases)}))
    engine = {"max_model_len": 512, "max_lora_rank": 16, "replicas": 2}
    raw = {"profile": "laptop", "models": str(folder / "models.yaml"), "profiles": {"laptop": {"engine": engine}}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(raw))
    return load_settings(folder / "mine.yaml")


def test_a_further_base_has_the_engine_of_the_settings_but_for_what_it_says(home, tmp_path):
    settings = with_bases(tmp_path, {"path": "org/big", "name": "big", "engine": {"max_model_len": 4096, "replicas": 1}})
    assert [one.name for one in settings.bases] == ["starter", "big"]
    own = pickle.loads(pickle.dumps(settings)).for_base("big")
    assert (own.models.base.path, own.models.bases, own.bases[0].name) == ("org/big", (), "big")
    assert (own.engine.max_model_len, own.engine.replicas, own.engine.max_lora_rank) == (4096, 1, 16)
    assert own.engine.replicas == 1, "a default that is said counts too"
    first = settings.for_base("starter")
    assert (first.engine, first.models.base, first.models.bases) == (settings.engine, settings.models.base, ())
    assert own.router == settings.router
    with pytest.raises(SettingsError, match=r"no base 'bgi'; configs/models.yaml has starter, big"):
        settings.for_base("bgi")


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ({"path": "a/b", "name": "starter"}, "two bases are called 'starter'"),
        ({"path": "a/b", "name": "auto"}, "no base can be called 'auto'"),
        ({"path": "a/b", "name": "router"}, "no base can be called 'router'"),
        ({"path": "a/b", "name": "a/b"}, "'bases.0.name' is 'a/b'"),
        ({"name": "b"}, "'bases.0.path' is missing"),
        ({"path": "a/b", "name": "b", "endpoint": "http://localhost:1/v1"}, "give path and name, no endpoint"),
        (
            {"path": "a/b", "name": "b", "engine": {"max_modl_len": 9}},
            "'bases.0.engine.max_modl_len'; did you mean 'max_model_len'",
        ),
        ({"path": "a/b", "name": "b", "engine": {"replicas": 0}}, "'bases.0.engine.replicas' is 0"),
        ({"path": "a/b", "name": "b", "replicas": 2}, "unknown key 'bases.0.replicas'"),
    ],
)
def test_a_wrong_base_is_one_sentence(home, tmp_path, base, says):
    with pytest.raises(SettingsError) as caught:
        with_bases(tmp_path, base)
    assert says in caught.value.message
    assert "models.yaml" in caught.value.message


def test_a_recipe_names_a_served_base_by_its_name_or_its_path(home, tmp_path):
    settings = with_bases(tmp_path, {"path": "org/big", "name": "large", "engine": {"max_lora_rank": 64}})
    for named, name, rank in (
        (None, "starter", 16),
        ("models/starter", "starter", 16),
        ("large", "large", 64),
        ("org/big", "large", 64),
        ("org/another", "another", 16),
    ):
        role = base_role(settings, named)
        assert (role.name, engine_of(settings, role).max_lora_rank) == (name, rank), named
    for role in settings.bases:
        assert base_of(settings, base_digest(role)) == role
    assert base_of(settings, "0" * 64) is None


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


def test_an_engine_of_a_further_base_that_does_not_go_with_the_settings_is_one_sentence(settings):
    further = FurtherBase(path="models/starter", name="other", engine=EngineSettings(replicas=4))
    models = settings.models.model_copy(update={"bases": (further,)})
    engine = settings.engine.model_copy(update={"max_replicas": 2})
    with pytest.raises(SettingsError, match=r"engine of base 'other'.*max_replicas \(2\) is below replicas \(4\)"):
        settings.model_copy(update={"models": models, "engine": engine}).for_base("other")
