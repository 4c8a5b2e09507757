"""Recipes: everything a job needs to know, frozen. An unknown key is an error before any worker is asked for."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from cluster.domain.base import Frozen, Name
from cluster.domain.data_recipes import (
    ConversationsRecipe,
    IngestRecipe,
    SignalsRecipe,
    SynthesiseRecipe,
)
from cluster.domain.versions import Bump


class LoraRecipe(Frozen):
    """The adapter's shape. ``target_modules`` is "all-linear" or a list of module names in the base."""

    rank: int = Field(default=32, ge=1, le=1024)
    alpha: float = Field(default=64.0, gt=0)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    layers: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, min_length=1, description="numbers of the base's layers that are adapted, from 0; default: all"
    )


class TrainRecipe(Frozen):
    """What SFT and DPO have in common. Exactly one of ``datasets`` (names or name@digest in the catalog) and ``rows`` (a JSONL file)."""

    agent: Name
    datasets: tuple[str, ...] = ()
    rows: str | None = None
    base: str | None = Field(
        default=None, description="a served base's name, a model id or a path; default: base of configs/models.yaml"
    )
    parent: str | None = Field(default=None, description="agent@version to continue from; 'champion' for the present one")
    lora: LoraRecipe = LoraRecipe()
    max_steps: int = Field(default=300, ge=1)
    batch_size: int = Field(default=64, ge=1, description="rows per optimiser step, over all workers")
    micro_batch_size: int | None = Field(
        default=None, ge=1, description="rows per worker per forward pass; default: no accumulation"
    )
    learning_rate: float = Field(default=5e-3, gt=0)
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    warmup: float = Field(default=0.05, ge=0.0, lt=1.0, description="share of the steps")
    weight_decay: float = Field(default=0.0, ge=0.0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_length: int = Field(default=512, ge=8, description="tokens; longer rows are dropped and counted")
    zero: Literal[0, 1, 2, 3] = Field(default=0, description="DeepSpeed ZeRO stage; 0: without DeepSpeed")
    offload: bool = Field(default=False, description="ZeRO: optimiser state in host memory")
    workers: int = Field(default=1, ge=1)
    threads: int | None = Field(default=None, ge=1, description="CPU threads per worker; default: the machine's cores / workers")
    gpus_per_worker: float = Field(default=0.0, ge=0.0)
    bf16: bool = False
    quantise: Literal["none", "4bit"] = Field(default="none", description="4bit: the base in NF4 (QLoRA), the adapter in full")
    sharding: Literal["zero", "fsdp"] = Field(default="zero", description="fsdp: PyTorch's own, where DeepSpeed does not fit")
    packing: bool = Field(default=True, description="rows of a step without padding; false: padded, rows of like length together")
    liger: bool = Field(default=True, description="Liger's kernels, on GPUs where they are installed")
    gradient_checkpointing: bool = False
    checkpoint_every: int = Field(default=100, ge=1, description="steps")
    eval_share: float = Field(
        default=0.0, ge=0.0, le=0.5, description="of the rows, held out: their loss is measured while training"
    )
    eval_every: int = Field(default=50, ge=1, description="steps")
    patience: int | None = Field(
        default=None,
        ge=1,
        description="measurements without a better held-out loss, after which training stops; the best is kept",
    )
    seed: int = 7
    bump: Bump | None = Field(default=None, description="weight of the version step; default: what the rules of versions say")

    @model_validator(mode="after")
    def _one_source_of_rows(self) -> "TrainRecipe":
        if bool(self.datasets) == bool(self.rows):
            raise ValueError("give either 'datasets' or 'rows', not both and not neither")
        if self.patience and not self.eval_share:
            raise ValueError(f"patience {self.patience} needs held-out rows; set eval_share (0.1, say)")
        if self.sharding == "fsdp" and self.zero:
            raise ValueError(f"sharding fsdp and zero {self.zero} exclude each other; set zero to 0, or sharding to zero")
        if self.quantise != "none" and (self.zero == 3 or self.sharding == "fsdp"):
            raise ValueError("a 4-bit base cannot be sharded here; set quantise to none, or zero to 0, 1 or 2")
        share = self.batch_size / self.workers
        if share != int(share) or share % (self.micro_batch_size or 1):
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of workers ({self.workers}) times micro_batch_size "
                f"({self.micro_batch_size or 1})"
            )
        return self


class SftRecipe(TrainRecipe):
    """Supervised fine-tuning of a LoRA adapter."""


class DpoRecipe(TrainRecipe):
    """Direct preference optimisation (Rafailov et al., 2023, arXiv:2305.18290), continuing the parent's adapter, which is also the
    reference. ``sft_weight`` adds that much of the chosen answers' negative log-likelihood to the loss.

    ``replay`` names SFT datasets whose rows are mixed in, for the SFT term alone: what people liked stays as it is while what they did
    not like changes.
    """

    parent: str | None = "champion"
    learning_rate: float = Field(default=5e-4, gt=0)
    max_steps: int = Field(default=60, ge=1)
    batch_size: int = Field(default=16, ge=1)
    beta: float = Field(default=0.1, gt=0)
    sft_weight: float = Field(default=1.0, ge=0.0)
    replay: tuple[str, ...] = ()


class Axis(Frozen):
    """What a searched field may be: one of ``values``, or a number from ``low`` to ``high`` (both included; whole where the field's are).
    ``log``: as likely from 1 to 10 as from 10 to 100."""

    values: tuple[Any, ...] | None = Field(default=None, min_length=2)
    low: float | None = None
    high: float | None = None
    log: bool = False

    @model_validator(mode="after")
    def _values_or_numbers(self) -> "Axis":
        if self.values is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("give either 'values', or 'low' and 'high'")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give 'values', or 'low' and 'high'")
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(
                f"low {self.low:g} must be less than high {self.high:g}" + (", and above 0 for log" if self.log else "")
            )
        return self

    @property
    def span(self) -> tuple[float, float]:
        """Both ends, of numbers; of values none."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high


class TuneRecipe(Frozen):
    """A search over fields of an SFT or DPO recipe. ``base`` is that recipe, or a file with it; ``space`` says which of its fields
    (dotted, as ``lora.rank``) take which values.

    Trials end early by asynchronous successive halving (ASHA: Li et al., 2018, arXiv:1810.05934): at ``grace`` steps, and at each
    ``reduction`` times as many, only the best 1 / ``reduction`` of those that got there go on.
    """

    job: Literal["sft", "dpo"] = "sft"
    base: dict[str, Any] | str
    space: dict[str, Axis] = Field(min_length=1)
    metric: Literal["eval_loss", "eval_exact", "eval_reward_accuracy", "eval_reward_margin"] = "eval_loss"
    trials: int = Field(default=20, ge=1, le=10_000)
    at_once: int = Field(default=2, ge=1)
    holdout: float = Field(
        default=0.2, gt=0.0, le=0.5, description="share of the rows that trials are measured on, the same for all"
    )
    measure_every: int = Field(default=25, ge=1, description="steps")
    grace: int = Field(default=25, ge=1, description="steps that every trial gets")
    reduction: float = Field(default=3.0, gt=1.0)
    seed: int = 7

    @property
    def mode(self) -> Literal["min", "max"]:
        """Which way the metric is better."""
        return "min" if self.metric == "eval_loss" else "max"


class RouterRecipe(Frozen):
    """Training of the router head from agents' descriptions, examples and router datasets."""

    agents: tuple[Name, ...] = Field(default=(), description="default: every visible agent")
    datasets: tuple[str, ...] = ()
    rows: str | None = None
    out_of_scope_recall: float = Field(default=0.9, gt=0.0, lt=1.0, description="aimed at when the threshold is chosen")
    l2: float = Field(default=0.2, ge=0.0, description="ridge penalty; texts have length about 1 in the head's features")
    sharpness: float = Field(default=3.0, gt=0.0, le=100.0, description="g of the kernel exp(g (cosine - 1)) over embeddings")
    lexical: float = Field(
        default=0.15, ge=0.0, le=10.0, description="weight of words and of characters beside the embedding's 1"
    )
    holdout: float = Field(default=0.2, gt=0.0, lt=0.9)
    tolerance: float = Field(default=0.02, ge=0.0, le=0.5, description="how much worse than the champion the lower bound may say")
    seed: int = 7


class GuardRecipe(Frozen):
    """Training of the guard's classifier from guard datasets, or from a JSONL file of guard rows."""

    datasets: tuple[str, ...] = ()
    rows: str | None = None
    bank: str = Field(default="configs/guard.yaml", description="the file whose patterns the classifier takes as features")
    inverse_l2: float = Field(default=10.0, gt=0, description="C of the logistic regression: higher fits closer")
    folds: int = Field(default=10, ge=2, le=20, description="of the cross-validation that thresholds are chosen on")
    tolerance: float = Field(
        default=0.02,
        ge=0.0,
        le=0.5,
        description="how much recall a challenger may lose on held-out attacks, and what share of the agents' questions it may stop",
    )
    seed: int = 7

    @model_validator(mode="after")
    def _one_source_of_rows(self) -> "GuardRecipe":
        if bool(self.datasets) == bool(self.rows):
            raise ValueError("give either 'datasets' or 'rows', not both and not neither")
        return self


class JudgeRecipe(Frozen):
    """The model that grades answers: any OpenAI-compatible endpoint. One that wants a key is the judge of configs/models.yaml, so that
    no key is ever part of a recipe, which the catalog keeps."""

    endpoint: str | None = Field(default=None, description="'served': the served endpoint itself; default: the judge's")
    model: str | None = Field(default=None, description="the model's name at the endpoint; default: the judge's")
    max_tokens: int = Field(default=300, ge=16, description="of one grade with its reason")
    max_tokens_total: int | None = Field(default=None, ge=1, description="in and out, over all grades of the run")
    concurrency: int = Field(default=8, ge=1, le=512)
    retries: int = Field(default=4, ge=0, le=20)
    timeout: float = Field(default=60.0, gt=0, description="seconds for one grade")


class EvaluateRecipe(Frozen):
    """A release on question sets, through the served endpoint (``engine: served``) or through an engine of the job's own, without the
    serving application (``engine: offline``)."""

    release: str = Field(description="agent@version, agent@base, or 'auto' for routing sets")
    question_sets: tuple[Name, ...] = Field(min_length=1)
    engine: Literal["served", "offline"] = "served"
    retrieve: bool = True
    concurrency: int = Field(default=16, ge=1, le=512)
    limit: int | None = Field(default=None, ge=1)
    judge: JudgeRecipe = JudgeRecipe()


class CalibrateRecipe(Frozen):
    """The judge's grades of turns beside the thumbs that people gave them."""

    agent: Name | None = Field(default=None, description="default: turns of every agent")
    judge: JudgeRecipe = JudgeRecipe()
    limit: int = Field(default=200, ge=2, description="turns at most, the newest judged first")


class GateRecipe(Frozen):
    """A challenger against the champion on the same question sets; ``promote`` moves the alias when it passes.

    The agent's regression sets, and the forgetting and guard sets for it or for all agents, are asked whether named or not.
    """

    challenger: str
    champion: str | None = Field(default=None, description="default: the agent's champion, or agent@base when there is none")
    question_sets: tuple[Name, ...] = Field(default=(), description="default: the agent's sets of purpose skill")
    tolerance: float = Field(default=0.02, ge=0.0, le=0.5, description="how much worse the lower bound may say, as a rate")
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    max_leaked: float = Field(
        default=0.05, ge=0.0, lt=1.0, description="share of a set that may stand in the training rows (and is left out)"
    )
    concurrency: int = Field(default=16, ge=1, le=512)
    promote: bool = True
    waive: str | None = Field(default=None, description="why to promote although the gate says keep; recorded with the promotion")

    @field_validator("waive")
    @classmethod
    def _waiver_says_why(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("a waiver needs its reason; say why the challenger is promoted although the gate would keep it")
        return None if value is None else value.strip()

    @model_validator(mode="after")
    def _waiver_promotes(self) -> "GateRecipe":
        if self.waive is not None and not self.promote:
            raise ValueError("waive promotes and promote is false; leave one of them out")
        return self


class ExportRecipe(Frozen):
    """A release as files for other programs: merged weights, a GGUF file, or an Ollama model."""

    release: str = Field(description="agent@version, agent@alias or agent")
    form: Literal["merged", "gguf", "ollama"] = "gguf"
    type: Literal["f16", "q8_0", "q4_0"] = Field(default="q8_0", description="of the GGUF file's matrices")
    dtype: Literal["keep", "float32", "bfloat16", "float16"] = Field(
        default="keep", description="of merged weights; keep: the base's"
    )
    output: str = Field(min_length=1, description="a directory: new, empty, or an earlier export of the same release")
    base: str | None = Field(default=None, description="path of the base; default: the one served, or that of the training")
    check: bool = Field(default=True, description="compare with the adapter; an export that drifts is not kept")
    prompts: int = Field(default=12, ge=1, le=1000, description="prompts compared")
    tokens: int = Field(default=32, ge=1, le=4096, description="tokens of each greedy answer")

    @field_validator("type", mode="before")
    @classmethod
    def _no_other_types(cls, value: object) -> object:
        kind = str(value).lower()
        if re.fullmatch(r"i?q[2-8]_(k(_[sml])?|xxs|xs|s|m|nl)", kind):
            raise ValueError(f"{value} needs llama-quantize, a program of llama.cpp: export f16 and run it on that file")
        if kind in ("awq", "gptq", "fp8"):
            raise ValueError(
                f"{value} needs a calibration run of its own (llm-compressor): export form merged and run it on that"
            )
        return kind


Recipe = Annotated[
    SftRecipe
    | DpoRecipe
    | TuneRecipe
    | RouterRecipe
    | GuardRecipe
    | EvaluateRecipe
    | CalibrateRecipe
    | GateRecipe
    | ExportRecipe
    | IngestRecipe
    | ConversationsRecipe
    | SynthesiseRecipe
    | SignalsRecipe,
    Field(union_mode="smart"),
]
RECIPES: dict[str, type[Frozen]] = {
    "data_jobs.ingest": IngestRecipe,
    "data_jobs.conversations": ConversationsRecipe,
    "data_jobs.synthesise": SynthesiseRecipe,
    "data_jobs.signals": SignalsRecipe,
    "train_jobs.sft": SftRecipe,
    "train_jobs.dpo": DpoRecipe,
    "train_jobs.tune": TuneRecipe,
    "train_jobs.router_head": RouterRecipe,
    "train_jobs.guard_head": GuardRecipe,
    "train_jobs.evaluate": EvaluateRecipe,
    "train_jobs.calibrate": CalibrateRecipe,
    "train_jobs.gate": GateRecipe,
    "train_jobs.export": ExportRecipe,
}
"""Which recipe each job takes."""
