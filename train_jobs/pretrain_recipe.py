"""The recipe of a pretraining run."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class Stage(BaseModel):
    """A mixture of skills that is used until `rows` rows have been seen in all."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    rows: int = Field(gt=0)
    mixture: dict[str, float]


class PretrainRecipe(BaseModel):
    """All that shapes a pretraining run. Rates are peak values; `minutes` is training time, measuring included."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    corpus: str
    vocabulary: str
    out: Path
    work: Path
    seed: int = 0
    vocab_size: int = Field(ge=300)
    width: int
    layers: int
    heads: int
    key_value_heads: int
    head_size: int = 32
    feed_forward: int
    context: int = 1024
    minutes: float = Field(gt=0)
    decay_minutes: float = Field(gt=0)
    warmup_steps: int = 60
    batch_tokens: int = 8192
    muon_rate: float = 0.02
    adam_rate: float = 3e-3
    average_decay: float = Field(default=0.995, gt=0, lt=1)
    checkpoint_minutes: float = 2.5
    measure_minutes: float = 5.0
    measure_rows: int = 64
    measured: tuple[str, ...] = ()
    threads: int = 2
    stages: tuple[Stage, ...] = Field(min_length=1)
