"""The models of ``configs/models.yaml``: who plays which role, and which base models are served, each on an engine of its own."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from cluster.domain.agents import RESERVED
from cluster.domain.base import Frozen, Name

_PROJECT = Path(__file__).resolve().parent.parent


class EngineSettings(Frozen):
    """vLLM's settings. ``max_cpu_loras``: how many adapters are held, the least recently used going first; None: sized to the fleet.

    With ``max_replicas`` there are as many replicas as the load asks for, from ``replicas`` on: so many that each has about
    ``answers_per_replica`` under way. An engine more costs its start (and its GPU), so Serve waits before it adds or ends one.
    """

    device: Literal["cpu", "gpu"] = "cpu"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    kv_cache_gib: float = Field(default=1.0, gt=0)
    gpu_memory_utilization: float = Field(default=0.6, gt=0, le=1)
    max_model_len: int = Field(default=1024, ge=128)
    max_num_seqs: int = Field(default=64, ge=1)
    max_lora_rank: int = Field(default=32, ge=1)
    max_loras: int = Field(default=4, ge=1)
    max_cpu_loras: int | None = Field(default=None, ge=1)
    enforce_eager: bool = True
    replicas: int = Field(default=1, ge=1)
    max_replicas: int | None = Field(default=None, ge=1, description="None: always as many as replicas")
    answers_per_replica: float = Field(default=32.0, gt=0)
    upscale_seconds: float = Field(default=30.0, ge=0, description="how long there must be too many answers for them")
    downscale_seconds: float = Field(default=600.0, ge=0, description="how long there must be too few")
    tensor_parallel_size: int = Field(default=1, ge=1)
    cpus: float = Field(default=2.0, ge=0)
    tool_parser: str | None = Field(default=None, description="vLLM's parser of the base's tool calls, as hermes or llama3_json")

    @model_validator(mode="after")
    def _grows(self) -> "EngineSettings":
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas ({self.max_replicas}) is below replicas ({self.replicas})")
        return self

    def over(self, other: "EngineSettings") -> "EngineSettings":
        """``other`` with what is said here, be it the default."""
        said = {name: getattr(self, name) for name in self.model_fields_set}
        return EngineSettings.model_validate({**other.model_dump(), **said})


class ModelRole(Frozen):
    """Who plays a role: a hub id or a local path, or an OpenAI-compatible ``endpoint``."""

    path: str = ""
    name: str
    endpoint: str | None = None
    key: str | None = None

    @property
    def location(self) -> str:
        """The path, made absolute when it lies in this project; else the hub id as it is."""
        inside = _PROJECT / self.path
        return str(inside) if self.path and inside.exists() else self.path


class FurtherBase(ModelRole):
    """A base model beside the first. ``engine`` says what its engine has other than ``engine`` in the settings."""

    path: str = Field(min_length=1)
    name: Name
    engine: EngineSettings = EngineSettings()

    @model_validator(mode="after")
    def _has_weights(self) -> "FurtherBase":
        if self.endpoint is not None or self.key is not None:
            raise ValueError("an engine serves weights: give path and name, no endpoint and no key")
        return self


class Models(Frozen):
    """The five roles of ``configs/models.yaml``. ``bases`` are served beside ``base``, the one that trainings and ``agent@base`` take."""

    base: ModelRole
    bases: tuple[FurtherBase, ...] = ()
    embedder: ModelRole
    refiner: ModelRole
    judge: ModelRole
    finalist: ModelRole

    @model_validator(mode="after")
    def _bases_are_told_apart(self) -> "Models":
        names = [self.base.name, *(one.name for one in self.bases)]
        for number, name in enumerate(names):
            if name in ("auto", *RESERVED):
                raise ValueError(f"no base can be called '{name}', a name that has its meaning already; call it otherwise")
            if name in names[:number]:
                raise ValueError(f"two bases are called '{name}'; give each a name of its own")
        return self
