"""Exports of random-weight miniatures and of the starter model, held against transformers with the adapter beside the base."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import gguf
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.configuration_llama import LlamaConfig

from cluster import base_model
from cluster.artifacts import file_digest
from cluster.catalog import questions
from cluster.domain.agents import Agent
from cluster.domain.prompts import render
from cluster.domain.questions import Question, QuestionSet
from cluster.domain.recipes import ExportRecipe
from cluster.errors import InvalidInput, JobFailed, NotFound, TreadleError
from cluster.model_roles import ModelRole
from cluster.settings import ROOT
from tests.miniatures import ARCHITECTURES, make_adapter, make_miniature
from train_jobs.export import architectures, gguf_file, llamacpp, parity, vocabulary
from train_jobs.export import job as export_job
from train_jobs.export.merge import Weights, write_merged

PROMPTS = ("Find files over 10 MB in /tmp.", "List them, don't ask!", "naïve café 12.5%", "find /srv -size +7M")
TOKENS = 24


class Miniature:
    """A base with an adapter, and what the adapter says."""

    def __init__(self, base: Path, adapter: Path) -> None:
        self.base, self.adapter = base, adapter
        self.weights = Weights(base, adapter, "mini@1.0.0")
        self.tokenizer: Any = AutoTokenizer.from_pretrained(base)
        self.prompts = parity.make_prompts(self.tokenizer, [render("Write one shell command.", text) for text in PROMPTS], 400)
        ends = vocabulary.end_ids(base, self.weights.config, self.tokenizer)
        self.answers = parity.reference(self.weights, self.prompts, ends, TOKENS)

    def merged(self, folder: Path, dtype: str = "float32") -> parity.Parity:
        folder.mkdir(parents=True, exist_ok=True)
        write_merged(self.weights, folder, getattr(torch, dtype))
        return parity.compare_merged(folder, dtype, self.tokenizer, self.prompts, self.answers)

    def gguf(self, file: Path, kind: str) -> parity.Parity:
        gguf_file.write_gguf(self.weights, self.tokenizer, file, kind, "mini")
        return parity.compare_gguf(file, kind, self.tokenizer, self.prompts, self.answers, TOKENS)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Miniature]:
    made: dict[str, Miniature] = {}

    def miniature(kind: str) -> Miniature:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            base = ROOT / "models" / "starter" if kind == "starter" else make_miniature(kind, folder / "base")
            made[kind] = Miniature(base, make_adapter(base, folder / "adapter", std=0.02 if kind == "starter" else 0.05))
        return made[kind]

    return miniature


@pytest.mark.parametrize("kind", ["starter", *ARCHITECTURES])
def test_every_form_answers_as_the_adapter_does(make, tmp_path, kind):
    one = make(kind)
    assert len({tuple(answer.ids) for answer in one.answers}) > 1, "answers that are all alike would hide drift"
    merged, f16, q8_0 = (
        one.merged(tmp_path / "merged"),
        one.gguf(tmp_path / "f16.gguf", "f16"),
        one.gguf(tmp_path / "q8.gguf", "q8_0"),
    )
    assert merged.greedy_equal == 1.0
    assert merged.max_difference < 1e-4
    assert f16.kl < 1e-5
    assert q8_0.kl < 2e-3
    assert f16.texts_tokenised_alike == q8_0.texts_tokenised_alike == len(parity.TEXTS) + 2 * len(PROMPTS)
    # Random weights leave places where two tokens are as good as equal; there, and only there, rounding may choose.
    assert f16.greedy_equal + f16.near_ties / f16.prompts == 1.0
    assert q8_0.greedy_equal + q8_0.near_ties / q8_0.prompts == 1.0


def test_four_bits_are_a_quarter_of_the_bytes_and_still_near(make, tmp_path):
    one = make("starter")
    found = one.gguf(tmp_path / "q4.gguf", "q4_0")
    kinds = {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(tmp_path / "q4.gguf").tensors}
    assert kinds["blk.0.ffn_up.weight"] == gguf.GGMLQuantizationType.Q4_0
    assert kinds["token_embd.weight"] == gguf.GGMLQuantizationType.Q8_0
    assert kinds["blk.0.attn_q_norm.weight"] == gguf.GGMLQuantizationType.F32
    assert found.kl < 0.2


def test_rows_that_are_no_multiple_of_a_block_stay_f16_and_are_told(tmp_path):
    base = make_miniature("qwen3", tmp_path / "base", hidden_size=48)
    one = Miniature(base, make_adapter(base, tmp_path / "adapter"))
    left = gguf_file.write_gguf(one.weights, one.tokenizer, tmp_path / "x.gguf", "q8_0", "mini")
    assert "token_embd.weight" in left
    assert "blk.1.ffn_down.weight" not in left
    assert parity.compare_gguf(tmp_path / "x.gguf", "q8_0", one.tokenizer, one.prompts, one.answers, TOKENS).kl < 2e-3


def test_merging_is_what_peft_does_and_shards_stay_shards(tmp_path):
    base = make_miniature("llama3", tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    model.save_pretrained(tmp_path / "sharded", max_shard_size="60KB")
    for file in base.glob("tokenizer*"):
        shutil.copy(file, tmp_path / "sharded")
    adapter = make_adapter(base, tmp_path / "adapter")
    (tmp_path / "out").mkdir()
    told: list[float] = []
    write_merged(Weights(tmp_path / "sharded", adapter), tmp_path / "out", torch.float32, told.append)
    whole = PeftModel.from_pretrained(model.float(), str(adapter)).merge_and_unload().state_dict()
    shards = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(shards) > 2
    ours = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    assert set(ours) == set(whole)
    assert max(float((ours[name] - whole[name]).abs().max()) for name in ours) < 1e-6
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {shard.name for shard in shards}
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in ours.values())
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)


def test_a_file_of_another_adapter_drifts_and_the_sentence_says_where(make, tmp_path):
    one = make("qwen3")
    other = Weights(one.base, make_adapter(one.base, tmp_path / "other", seed=9), "other@1.0.0")
    gguf_file.write_gguf(other, one.tokenizer, tmp_path / "other.gguf", "f16", "other")
    with pytest.raises(JobFailed, match=r"The f16 export drifts from the adapter: its answer to '.+' has .+ nats likelier"):
        parity.compare_gguf(tmp_path / "other.gguf", "f16", one.tokenizer, one.prompts, one.answers, TOKENS)
    write_merged(other, tmp_path, torch.float32)
    with pytest.raises(JobFailed, match=r"The float32 export drifts from the adapter"):
        parity.compare_merged(tmp_path, "float32", one.tokenizer, one.prompts, one.answers)


@pytest.mark.parametrize(("change", "says"), [("split", "splits '.+' otherwise"), ("template", "renders '.+' otherwise")])
def test_another_tokenisation_or_template_drifts(make, tmp_path, change, says):
    one = make("llama3")
    changed = tmp_path / "changed"
    shutil.copytree(one.base, changed)
    if change == "split":
        file = changed / "tokenizer.json"
        file.write_text(file.read_text().replace(r"|\\p{N}{1,3}|", r"|\\p{N}|"))
    tokenizer = AutoTokenizer.from_pretrained(changed)
    if change == "template":
        tokenizer.chat_template = tokenizer.chat_template.replace("<|eot_id|>", "<|end_of_text|>")
    gguf_file.write_gguf(Weights(changed, one.adapter), tokenizer, tmp_path / "x.gguf", "f16", "mini")
    with pytest.raises(JobFailed, match=says):
        parity.compare_gguf(tmp_path / "x.gguf", "f16", one.tokenizer, one.prompts, one.answers, TOKENS)


def test_a_file_that_llama_cpp_does_not_take_is_one_sentence(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(JobFailed, match=r"llama.cpp does not take bad.gguf: "):
        llamacpp.ask(tmp_path / "bad.gguf", ["x"], [], [], 4, 4)


def test_probabilities_are_given_to_the_tokens_they_are_surely_of():
    one, two = [(1, -0.1)], [(2, -0.2)]
    assert [step.logprobs for step in llamacpp.steps([7, 9, 8], [(7, one), (8, two)])] == [{1: -0.1}, None, {2: -0.2}]
    # Of two equal neighbours, one untold, nobody knows which.
    assert [step.logprobs for step in llamacpp.steps([5, 5, 8], [(5, one), (8, two)])] == [None, None, {2: -0.2}]
    assert llamacpp.steps([], []) == []


def test_llama_3s_slower_rotations_are_transformers_own():
    given = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = LlamaConfig(head_dim=64, hidden_size=256, num_attention_heads=4, max_position_embeddings=131072)
    config.rope_parameters = {**given, "original_max_position_embeddings": 8192}
    theirs, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1 / 500_000.0 ** (torch.arange(0, 64, 2) / 64)
    ours = architectures.rope_factors(config.to_dict())
    assert torch.allclose(plain / torch.from_numpy(ours), theirs, rtol=1e-5)


# What does not fit is refused in one sentence


def _config(**changes: Any) -> Callable[[Path, Path], None]:
    def change(base: Path, _: Path) -> None:
        file = base / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def _cut(base: Path, _: Path) -> None:
    file = base / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def _rename(base: Path, _: Path) -> None:
    file = base / "model.safetensors"
    save_file({name.replace("layers.1.mlp.up_proj", "layers.1.mlp.w3"): tensor for name, tensor in load_file(file).items()}, file)


def _narrow(_: Path, adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    save_file({name: tensor[:, :-1].contiguous() for name, tensor in load_file(file).items()}, file)


def _split(base: Path, _: Path) -> None:
    file = base / "tokenizer.json"
    file.write_text(file.read_text().replace(r"|\\p{N}|", r"|\\p{N}{1,7}|"))


def _dora(_: Path, adapter: Path) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "use_dora": True}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_config(architectures=["GPT2LMHeadModel"]), "architecture GPT2LMHeadModel cannot be made here"),
        (_config(hidden_act="relu"), "does not run Qwen3ForCausalLM with activation 'relu'"),
        (_config(rope_parameters={"rope_theta": 1e4, "rope_type": "longrope"}), "rotations of type 'longrope'"),
        (_config(quantization_config={"quant_method": "awq"}), "is quantised"),
        (_cut, "is cut short"),
        (_rename, "changes module 'model.layers.1.mlp.up_proj', which base"),
        (_narrow, "export with the base it was trained on"),
        (_dora, "uses use_dora; only plain LoRA can be merged"),
        (_split, "splits text in a way that has no known name in llama.cpp"),
        (lambda base, _: (base / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda base, _: (base / "model.safetensors").unlink(), "There are no safetensors files"),
        (lambda _, adapter: (adapter / "adapter_config.json").rename(adapter / "x.json"), "holds no LoRA"),
    ],
)
def test_what_does_not_fit_is_one_sentence(make, tmp_path, change, says):
    one = make("qwen3")
    base, adapter = Path(shutil.copytree(one.base, tmp_path / "base")), Path(shutil.copytree(one.adapter, tmp_path / "adapter"))
    change(base, adapter)
    with pytest.raises(TreadleError) as caught:
        gguf_file.write_gguf(Weights(base, adapter, "linux@1.0.0"), one.tokenizer, tmp_path / "x.gguf", "f16", "x")
    assert says in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("kind", "says"), [("q4_k_m", "needs llama-quantize"), ("Q6_K", "needs llama-quantize"), ("fp8", "llm-compressor")]
)
def test_other_types_say_what_they_would_need(kind, says):
    with pytest.raises(ValueError, match=says):
        ExportRecipe(release="linux", type=kind, output="x")


# The job


class Shop:
    """Releases of one miniature in a catalog, and exports of them."""

    def __init__(self, open_job: Any, base: Path, adapter: Path, tmp_path: Path) -> None:
        self._open, self.base, self._adapter, self.out = open_job, base, adapter, tmp_path / "out"

    def register(self, name: str, base_digest: str | None = None) -> str:
        job = self._open("train_jobs.export", ExportRecipe(release="x", output="x"))
        digest = base_digest or base_model.base_digest(ModelRole(path=str(self.base), name="mini"))
        kept = self.out.parent / "kept"
        shutil.copytree(self._adapter, kept, ignore=lambda folder, names: [one for one in names if "adapter" not in one])
        card = Agent(name=name, prompt="Write one shell command.")
        return job.registry.register(card, kept, base_model="mini", base_digest=digest, recipe={"base": str(self.base)}).ref

    def export(self, ref: str, **given: Any) -> dict[str, Any]:
        recipe = ExportRecipe(**{"release": ref, "output": str(self.out), "tokens": 16, **given})
        return export_job.export(self._open("train_jobs.export", recipe), recipe)


@pytest.fixture
def shop(package_job, make, tmp_path) -> Shop:
    return Shop(package_job, make("gemma3").base, make("gemma3").adapter, tmp_path)


@pytest.mark.real
def test_the_job_exports_a_release_with_its_figures(shop):
    ref = shop.register("exporter")
    found = shop.export(ref, form="ollama", type="f16")
    assert [one["name"] for one in found["files"]] == ["Modelfile", f"exporter-{ref.split('@')[1]}-f16.gguf"]
    assert found["prompts_from"] == "built-in prompts"
    assert found["parity"]["kl"] < 1e-5
    assert any("blanks" in note for note in found["notes"]), "Gemma's template trims"
    kept = json.loads((shop.out / "export.json").read_text())
    assert kept == {name: value for name, value in found.items() if name not in ("output", "seconds")}
    again = shop.export(ref, form="merged", check=False)
    assert again["parity"] is None
    assert not list(shop.out.glob("*.gguf")), "an earlier export is replaced whole"
    assert AutoTokenizer.from_pretrained(shop.out)("a b").input_ids == AutoTokenizer.from_pretrained(shop.base)("a b").input_ids


@pytest.mark.real
def test_a_drifting_export_is_not_kept_unless_asked_for(make, package_job, tmp_path):
    """llama.cpp does not compose accents, a tokenizer with NFC does: a question in decomposed form shows it."""
    base = Path(shutil.copytree(make("gemma3").base, tmp_path / "base"))
    file = base / "tokenizer.json"
    value = json.loads(file.read_text())
    steps = value["normalizer"]["normalizers"]
    file.write_text(json.dumps({**value, "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, *steps]}}))
    shop = Shop(package_job, base, make("gemma3").adapter, tmp_path)
    ref = shop.register("drifter")
    asked = QuestionSet(
        name="drifter", agent="drifter", questions=(Question(id="1", text="cafe\u0301?", kind="contains", expected="x"),)
    )
    job = package_job("train_jobs.export", ExportRecipe(release=ref, output="x"))
    with job.catalog.transaction() as work:
        questions.save_set(work, asked)
    with pytest.raises(JobFailed, match=r"splits 'cafe.+ otherwise than the tokenizer"):
        shop.export(ref, type="q8_0")
    assert not shop.out.exists()
    assert shop.export(ref, type="q8_0", check=False)["files"]


@pytest.mark.real
def test_a_release_of_another_base_is_refused(shop):
    ref = shop.register("stranger", base_digest="0" * 64)
    with pytest.raises(InvalidInput, match=r"was trained on another base model \(mini, 000000000000\)"):
        shop.export(ref)
    with pytest.raises(NotFound, match="is no directory on this machine"):
        shop.export(ref, base="some/hub-id")
    assert not shop.out.exists()


@pytest.mark.real
def test_the_command_prints_one_json_value(shop, trainers_home):
    ref = shop.register("commanded")
    environment = {**os.environ, **trainers_home.env, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "cluster.cli.app", "releases", "export"]
    given = [ref, "-o", str(shop.out), "--type", "q8_0", "--prompts", "2", "--mode", "local", "--json"]
    done = subprocess.run([*command, *given], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["release"], found["output"], found["type"]) == (ref, str(shop.out), "q8_0")
    assert found["parity"]["prompts"] == 2
    file = shop.out / found["files"][0]["name"]
    assert (file.stat().st_size, file_digest(file)) == (found["files"][0]["bytes"], found["files"][0]["sha256"])
    refused = subprocess.run(
        [*command, f"{ref}9", *given[1:]], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"has no release {ref.split('@')[1]}9" in refused.stderr
