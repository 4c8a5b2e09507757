"""Many adapters on one engine: throughput when requests are spread over all of them, and what a cold one costs.

    python tests/benchmarks/serving_adapters.py [--model starter | random] [--adapters 64] [--streams 32] [--rounds 3] [--json]

One Treadle with random LoRA releases of rank 16. ``one``: all requests on one release; ``all``: spread over all, in turns; each answer has
``--tokens`` tokens, so that both are the same load. ``ratio`` is the median of the rounds' ratios of tokens/s. ``cold``: the first answer
of a release that was never asked against an answer of one that was, both alone. ``memory_mb``: of the engine's processes, before any
adapter and with all of them.

The starter model is so small that an adapter is a tenth of it, and a batch of many reads more adapters than model; ``random`` is a Llama of
100 M random weights, of which an adapter is a hundredth, as of models that people serve.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
from serving import questions
from serving_arms import STARTER, Treadle, random_model
from serving_load import Endpoint, load

AGENT, RANK = "linux", 16


def releases(scratch: Path, count: int, spread: float = 0.001, model: Path = STARTER) -> list[str]:
    """Registers that many releases whose adapters differ in their weights; their names. With a small ``spread`` of B's weights answers
    stay as long as those of the base; with a large one each says something else."""
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    from cluster.artifacts import Artifacts
    from cluster.base_model import base_digest
    from cluster.catalog import Catalog, agents
    from cluster.catalog import releases as kept
    from cluster.domain.releases import Release
    from cluster.settings import load_settings

    settings = load_settings()
    artifacts, catalog = Artifacts(settings.artifacts_url), Catalog(settings.catalog_url)
    place = scratch / "adapter"
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets)
    get_peft_model(AutoModelForCausalLM.from_pretrained(model), lora).save_pretrained(place)
    weights = load_file(place / "adapter_model.safetensors")
    names = []
    with catalog.reading() as work:
        card = agents.get(work, AGENT)
    for number in range(1, count + 1):
        torch.manual_seed(number)
        changed = {name: torch.randn_like(one) * (spread if "lora_B" in name else 0.02) for name, one in weights.items()}
        save_file(changed, place / "adapter_model.safetensors", metadata={"format": "pt"})
        bundle = artifacts.publish("adapter", place)
        made = Release(
            agent=AGENT, version=f"0.{number}.0", card=card, adapter_uri=bundle.uri, adapter_digest=bundle.digest, base_model="base",
            base_digest=base_digest(settings.models.base),
        )  # fmt: skip
        with catalog.transaction() as work:
            kept.add(work, made)
        names.append(made.ref)
    catalog.close()
    return names


def engine_memory() -> float:
    """MB (proportional set size) of vLLM's processes and the Engine replica."""
    sizes = 0
    for process in psutil.process_iter(["cmdline", "name"]):
        title = " ".join(process.info["cmdline"] or [process.info["name"] or ""])
        if "EngineDeployment" in title or "VLLM::" in title:
            sizes += process.memory_full_info().pss
    return round(sizes / 1e6)


def measure(given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    model = STARTER if given.model == "starter" else random_model(scratch / "model")
    treadle = Treadle(model, scratch, max_loras=given.slots, max_cpu_loras=given.adapters + 8, max_lora_rank=RANK)
    try:
        names = releases(scratch, given.adapters + given.cold, model=model)
        spread = [treadle.endpoint._replace(model=name, to_the_end=True) for name in names[: given.adapters]]
        pool = questions(given.requests)
        before = engine_memory()
        for endpoint in spread:  # each is loaded
            load([(endpoint, pool[0])], 1, 4)
        after = engine_memory()
        rounds = []
        for number in range(given.rounds):
            order = ("one", "all") if number % 2 == 0 else ("all", "one")
            heard = {}
            for name in order:  # a number in front keeps the prefix cache from answering for the second who asks
                fresh = [f"{number}{name[0]}. {text}" for text in pool]
                several = spread if name == "all" else spread[:1]
                asked: list[tuple[Endpoint, str]] = [(several[turn % len(several)], text) for turn, text in enumerate(fresh)]
                heard[name] = load(asked, given.streams, given.tokens)
            rounds.append(heard)
            say(f"round {number + 1}: { ({name: round(one['tokens_per_s']) for name, one in rounds[-1].items()}) }")
        cold, warm = [], []
        for name in names[given.adapters :]:
            cold.append(load([(spread[0]._replace(model=name), pool[1])], 1, given.tokens))
            warm.append(load([(spread[len(cold)], pool[1])], 1, given.tokens))
        whole = [(one["e2e_p95"], other["e2e_p95"]) for one, other in zip(cold, warm, strict=True)]
        return {
            "tokens_per_s": {
                name: round(statistics.median(one[name]["tokens_per_s"] for one in rounds), 1) for name in ("one", "all")
            },
            "ratio": round(statistics.median(one["all"]["tokens_per_s"] / one["one"]["tokens_per_s"] for one in rounds), 3),
            "failed": sum(one[name]["failed"] for one in rounds for name in one),
            "cold": {
                "cold_s": round(statistics.median(one for one, _ in whole), 3),
                "warm_s": round(statistics.median(one for _, one in whole), 3),
                "ratio": round(statistics.median(one / other for one, other in whole), 3),
            },
            "memory_mb": {"before": before, "with_all": after},
        }
    finally:
        treadle.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["starter", "random"], default="starter")
    parser.add_argument("--adapters", type=int, default=64)
    parser.add_argument("--slots", type=int, default=64, help="adapters in one batch (engine.max_loras)")
    parser.add_argument("--cold", type=int, default=5, help="releases that are asked for the first time")
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="treadle-serving-") as scratch:
        result = {
            "cores": os.cpu_count(),
            "model": given.model,
            "adapters": given.adapters,
            "slots": given.slots,
            **measure(given, Path(scratch)),
        }
    print(json.dumps(result) if given.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
