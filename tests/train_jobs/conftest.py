"""One small base model, one home and one private Ray for all tests of training."""

import json
import random
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from cluster import ray_lifecycle
from cluster.catalog import Catalog, agents, runs
from cluster.domain.agents import Agent
from cluster.domain.base import Frozen
from cluster.domain.recipes import EvaluateRecipe
from cluster.domain.runs import Run
from cluster.job_run import JobRun
from cluster.settings import Settings, load_settings

PROMPT = "Write one shell command."
Opener = Callable[[str, Frozen], JobRun]


def sft_rows(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Requests and commands with the same values in both."""
    pick = random.Random(seed)
    rows = []
    for _ in range(count):
        size, folder = pick.randint(1, 99), pick.choice(["/var/log", "/tmp", "/srv", "/home/ann"])
        rows.append(
            {
                "kind": "sft",
                "question": f"Find files over {size} MB in {folder}.",
                "answer": f"find {folder} -size +{size}M",
                "source": "t",
            }
        )
    return rows


def dpo_rows(count: int, seed: int = 2) -> list[dict[str, Any]]:
    """The same requests, where people want the command and not the talk."""
    return [
        {
            "kind": "dpo",
            "question": row["question"],
            "chosen": row["answer"],
            "rejected": "I would look for large files.",
            "source": "t",
        }
        for row in sft_rows(count, seed)
    ]


@pytest.fixture(scope="package")
def make_rows() -> Callable[[int], dict[str, list[dict[str, Any]]]]:
    """Rows by kind."""
    return lambda count: {"sft": sft_rows(count), "dpo": dpo_rows(count)}


@pytest.fixture(scope="package")
def files(
    tmp_path_factory: pytest.TempPathFactory, make_rows: Callable[[int], dict[str, list[dict[str, Any]]]]
) -> dict[str, str]:
    """A file of rows of each kind."""
    folder = tmp_path_factory.mktemp("rows")
    made = {}
    for kind, rows in make_rows(200).items():
        file = folder / f"{kind}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        made[kind] = str(file)
    return made


@pytest.fixture(scope="package")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 of a few hundred thousand random parameters with the starter's kind of tokenizer."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from train_jobs.starter_tokenizer import train_tokenizer

    folder = tmp_path_factory.mktemp("base")
    texts = [f"{PROMPT} {row['question']} {row['answer']}" for row in sft_rows(500)]
    tokenizer = train_tokenizer(texts, 400)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    config = Qwen3Config(vocab_size=400, head_dim=32, max_position_embeddings=512, tie_word_embeddings=True, **shape, **ends)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


def settings_of_home(folder: Path, settings_file: Path) -> Settings:
    """Settings of a home in ``folder`` whose catalog knows the agent "linux"."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TREADLE_PROFILE", "TREADLE_CATALOG_URL", "TREADLE_ARTIFACTS_URL", "TREADLE_MLFLOW_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("TREADLE_HOME", str(folder / "home"))
        patch.setenv("TREADLE_SETTINGS", str(settings_file))
        settings = load_settings()
    catalog = Catalog(settings.catalog_url).prepare()
    with catalog.transaction() as work:
        agents.save(work, Agent(name="linux", prompt=PROMPT))
    catalog.close()
    return settings


@pytest.fixture(scope="package")
def trainers_home(tmp_path_factory: pytest.TempPathFactory, settings_file: Path) -> Settings:
    """Settings of a home that these tests share (making MLflow's tables costs seconds)."""
    return settings_of_home(tmp_path_factory.mktemp("home"), settings_file)


@pytest.fixture(scope="package")
def package_job(trainers_home: Settings) -> Opener:
    """Opens runs in the shared home."""
    return opener_in(trainers_home)


def opener_in(settings: Settings) -> Opener:
    """Opens runs of a job with its recipe, as ``job_run.main`` would."""

    def opened(job: str, recipe: Frozen) -> JobRun:
        run = Run(job=job, recipe=recipe.model_dump(mode="json"), state="running", attempts=1)
        made = JobRun(settings, run)
        with made.catalog.transaction() as work:
            runs.save(work, run)
        return made

    return opened


@pytest.fixture
def open_job(package_job: Opener) -> Opener:
    return package_job


@pytest.fixture
def job(open_job: Opener) -> Iterator[JobRun]:
    """A run of an evaluation."""
    made = open_job("train_jobs.evaluate", EvaluateRecipe(release="a@0.1.0", question_sets=("s",)))
    yield made
    made.catalog.close()


@pytest.fixture(scope="package")
def private_ray(trainers_home: Settings) -> Iterator[None]:
    """A Ray of these tests' own; only it is stopped."""
    import ray

    found = ray_lifecycle.start(trainers_home, mlflow=False)
    try:
        ray.init(address=found.address, log_to_driver=True, logging_level="WARNING")
        yield
    finally:
        ray.shutdown()
        ray_lifecycle.stop(trainers_home)
