"""What the tests of the real engine put up: settings, adapters that speak nonsense of their own, releases of them, and ways to ask."""

from pathlib import Path
from typing import Any

import httpx
import openai
import yaml

from cluster import ray_lifecycle
from cluster.access import own_key
from cluster.artifacts import Artifacts
from cluster.base_model import base_digest
from cluster.catalog import Catalog
from cluster.domain.agents import Agent, GenerationSettings
from cluster.domain.releases import Release
from cluster.settings import ROOT, Settings

SETTINGS = """
profile: laptop
models: %s
profiles:
  laptop:
    ray: {logical_cpus: 8, object_store_gib: 0.3, gcs_port: 0, dashboard_port: 0}
    serve: {port: 0}
    mlflow: {port: 0}
    engine: {dtype: float32, kv_cache_gib: 0.25, max_lora_rank: 16, max_loras: 3, max_cpu_loras: 4, cpus: 1}
    router: {voice_secret: %s}
"""


def models_with(other: Path, file: Path) -> Path:
    """A models file with one more base, which takes little room."""
    roles = yaml.safe_load((ROOT / "configs" / "models.yaml").read_text())
    engine = {"kv_cache_gib": 0.1, "max_model_len": 256, "max_cpu_loras": 3}
    file.write_text(yaml.safe_dump({**roles, "bases": [{"path": str(other), "name": "other", "engine": engine}]}))
    return file


def adapter(base: str, seed: int, place: Path, rank: int = 8, scale: float = 0.8) -> Path:
    """A LoRA with random A and B: it says nonsense, but its own."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=rank, lora_alpha=16, target_modules=targets))
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=scale)
    model.save_pretrained(place)
    return place


def spoilt(adapter: Path, place: Path, how: str) -> Path:
    """A copy of an adapter with a number that is none (``nan``), half of its bytes (``torn``), or wider than the base (``wide``)."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(adapter, place)
    file = place / "adapter_model.safetensors"
    if how == "torn":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        return place
    weights = load_file(file)
    first = sorted(weights)[0]
    if how == "nan":
        weights[first][0, 0] = float("nan")
    else:
        weights = {name: torch.cat([one, one], dim=1 if "lora_A" in name else 0) for name, one in weights.items()}
    save_file(weights, file)
    return place


def release(settings: Settings, artifacts: Artifacts, directory: Path, agent: str, version: str, **changes: Any) -> Release:
    bundle = artifacts.publish("adapter", directory)
    card = Agent(name=agent, prompt=f"You are the {agent} helper.", generation=GenerationSettings(max_tokens=16))
    whole = {
        "agent": agent,
        "version": version,
        "card": card,
        "adapter_uri": bundle.uri,
        "adapter_digest": bundle.digest,
        "base_model": "starter",
        "base_digest": base_digest(settings.models.base),
    }
    return Release.model_validate({**whole, **changes})


class Service:
    """The running application, as the tests ask it."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self.settings, self.catalog = settings, catalog
        self.url = ray_lifecycle.connection(settings).serve
        self.key = own_key(settings, catalog)
        self.headers = {"Authorization": f"Bearer {self.key}"}

    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers=self.headers, timeout=120)

    async def ask(self, client: httpx.AsyncClient, model: str, question: str = "list the files", **more: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": question}], "treadle": {"record": False}, **more}
        return await client.post("/v1/chat/completions", json=body)
