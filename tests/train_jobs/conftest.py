"""One small base model, one home and one private Ray for all tests of training."""

import contextlib
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import psutil
import pytest

from cluster.catalog import Catalog, agents, runs
from cluster.domain.agents import Agent
from cluster.domain.base import Frozen
from cluster.domain.runs import Run
from cluster.job_run import JobRun
from cluster.ray_lifecycle import free_port
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


@pytest.fixture(scope="package")
def trainers_home(tmp_path_factory: pytest.TempPathFactory, settings_file: Path) -> Iterator[Settings]:
    """Settings of a home that these tests share (making MLflow's tables costs seconds)."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TREADLE_PROFILE", "TREADLE_CATALOG_URL", "TREADLE_ARTIFACTS_URL", "TREADLE_MLFLOW_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("TREADLE_HOME", str(folder / "home"))
        patch.setenv("TREADLE_SETTINGS", str(settings_file))
        settings = load_settings()
    catalog = Catalog(settings.catalog_url).prepare()
    with catalog.transaction() as work:
        agents.save(work, Agent(name="linux", prompt=PROMPT))
    yield settings
    catalog.close()


@pytest.fixture(scope="package")
def package_job(trainers_home: Settings) -> Opener:
    """A run of a job with its recipe, as ``job_run.main`` would open it."""

    def opened(job: str, recipe: Frozen) -> JobRun:
        run = Run(job=job, recipe=recipe.model_dump(mode="json"), state="running", attempts=1)
        made = JobRun(trainers_home, run)
        with made.catalog.transaction() as work:
            runs.save(work, run)
        return made

    return opened


@pytest.fixture
def open_job(package_job: Opener) -> Opener:
    return package_job


@pytest.fixture(scope="package")
def private_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray of these tests' own; only it is stopped.

    Its raylet gives its other daemons fifteen seconds to start, which on a busy machine can be too little: then it is started again.
    """
    import ray

    scratch = Path(tempfile.gettempdir()) / f"tr-{secrets.token_hex(3)}"  # short: Ray's sockets lie below
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--head",
        "--block",
        f"--port={port}",
        f"--temp-dir={scratch}",
    ]
    command += ["--num-cpus=8", "--include-dashboard=false", "--object-store-memory=200000000", "--node-ip-address=127.0.0.1"]
    ports = ("ray-client-server", "dashboard-agent-listen", "dashboard-agent-grpc", "metrics-export", "runtime-env-agent")
    command += [f"--{name}-port={free_port()}" for name in ports]
    log = tmp_path_factory.mktemp("ray") / "ray.log"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}.items():
            patch.setenv(name, value)
        head = _start(command, log)
        try:
            ray.init(address=f"127.0.0.1:{port}", log_to_driver=True, logging_level="WARNING")
            yield
        finally:
            ray.shutdown()
            _end(head)
    shutil.rmtree(scratch, ignore_errors=True)


def _start(command: list[str], log: Path) -> "subprocess.Popen[bytes]":
    for _ in range(5):
        with log.open("wb") as output:
            head = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        while head.poll() is None:
            if "Ray runtime started" in log.read_text():
                return head
            time.sleep(0.2)
    raise AssertionError(log.read_text()[-2000:])


def _end(head: "subprocess.Popen[bytes]") -> None:
    family = [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)] if head.poll() is None else []
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(family, timeout=10)
    head.wait()
