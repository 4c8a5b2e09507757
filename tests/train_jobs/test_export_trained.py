"""Every architecture's miniature through the whole of it: trained on Ray, registered, exported, and two of them served by vLLM."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from transformers import AutoTokenizer

from cluster.catalog import agents, releases
from cluster.domain.agents import Agent
from cluster.domain.prompts import render
from cluster.domain.recipes import ExportRecipe, LoraRecipe, SftRecipe
from cluster.domain.releases import CHALLENGER, Release
from cluster.settings import ROOT
from tests.miniatures import ARCHITECTURES, make_miniature
from train_jobs import training
from train_jobs.export import job as export_job
from train_jobs.export import parity, vocabulary
from train_jobs.export.merge import Weights

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
SERVED = ("qwen3", "gemma3")
STEPS = 150
ASK_VLLM = """
import json, sys
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

def main():
    task = json.load(open(sys.argv[1]))
    said = []
    for number, one in enumerate(task["models"], 1):
        engine = LLM(
            one["base"], dtype="float32", enforce_eager=True, enable_lora=True, max_lora_rank=16, max_model_len=256, max_num_seqs=8,
            kv_cache_memory_bytes=64 << 20, distributed_executor_backend="uni", worker_extension_cls="serve_app.cpu_lora.GroupedLora",
        )
        sampling = SamplingParams(temperature=0.0, max_tokens=task["tokens"])
        prompts = [{"prompt_token_ids": ids} for ids in one["prompts"]]
        lora = LoRARequest(f"mini-{number}", number, one["adapter"])
        said.append([list(out.outputs[0].token_ids) for out in engine.generate(prompts, sampling, lora_request=lora, use_tqdm=False)])
        engine.llm_engine.engine_core.shutdown()
        del engine
    json.dump(said, open(sys.argv[2], "w"))

if __name__ == "__main__":
    main()
"""


class Trained(NamedTuple):
    base: Path
    release: Release
    adapter: Path
    losses: list[float]


@pytest.fixture(scope="module")
def trained(
    private_ray: None, package_job: Callable[..., Any], make_rows: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Trained]:
    folder = tmp_path_factory.mktemp("trained")
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in make_rows(300)["sft"]))
    made: dict[str, Trained] = {}

    def train(kind: str) -> Trained:
        if kind in made:
            return made[kind]
        base = make_miniature(kind, folder / kind)
        recipe = SftRecipe(
            agent=f"mini-{kind}",
            base=str(base),
            rows=str(rows),
            lora=LoraRecipe(rank=16, alpha=32),
            learning_rate=1e-2,
            max_steps=STEPS,
            batch_size=16,
            threads=1,
            checkpoint_every=STEPS,
        )
        job = package_job("train_jobs.sft", recipe)
        with job.catalog.transaction() as work:
            agents.save(work, Agent(name=recipe.agent, prompt="Write one shell command."))
        done = training.train(job, recipe)
        with job.catalog.reading() as work:
            release = releases.get(work, done["release"])
            assert releases.alias(work, recipe.agent, CHALLENGER) == release.version
        curve = [point.value for point in job.registry.client.get_metric_history(release.mlflow_run_id, "loss")]
        made[kind] = Trained(base, release, job.artifacts.fetch(release.adapter_uri, release.adapter_digest), curve)
        return made[kind]

    return train


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_miniature_trains_registers_and_exports(trained, package_job, tmp_path, kind):
    one = trained(kind)
    assert one.losses[-1] < one.losses[0] / 2
    for form, kept in (("merged", "float32"), ("gguf", "f16"), ("gguf", "q8_0")):
        given = {"form": form, "dtype": "float32", "type": "f16" if form == "merged" else kept, "prompts": 6, "tokens": 24}
        recipe = ExportRecipe(release=one.release.ref, output=str(tmp_path / kept), **given)
        found = export_job.export(package_job("train_jobs.export", recipe), recipe)
        assert found["prompts_from"] == "training rows"
        assert found["parity"]["form"] == kept
        assert found["parity"]["kl"] < {"float32": 1e-7, "f16": 1e-5, "q8_0": 5e-3}[kept]
        assert found["parity"]["greedy_equal"] == 1.0 or (kept == "q8_0" and found["parity"]["greedy_equal"] > 0.8)


def test_what_vllm_serves_with_the_adapter_is_what_the_exports_are_held_against(trained, tmp_path):
    models, expected = [], []
    for kind in SERVED:
        one = trained(kind)
        weights, tokenizer = Weights(one.base, one.adapter), AutoTokenizer.from_pretrained(one.base)
        texts = [f"Find files over {size} MB in {folder}." for size, folder in ((7, "/srv"), (42, "/tmp"), (91, "/var/log"))]
        prompts = parity.make_prompts(tokenizer, [render("Write one shell command.", text) for text in texts], 200)
        answers = parity.reference(weights, prompts, vocabulary.end_ids(one.base, weights.config, tokenizer), 24)
        models.append({"base": str(one.base), "adapter": str(one.adapter), "prompts": [prompt.ids for prompt in prompts]})
        expected.append([answer.ids for answer in answers])
    (tmp_path / "ask.py").write_text(ASK_VLLM)
    (tmp_path / "task.json").write_text(json.dumps({"models": models, "tokens": 24}))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(tmp_path / "ask.py"), str(tmp_path / "task.json"), str(tmp_path / "said.json")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "said.json").read_text()) == expected
