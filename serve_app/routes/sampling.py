"""How clients say how an answer is sampled: OpenAI's fields and vLLM's, shared by chat and completions."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

MOST_CHOICES = 8
SCHEMA_CHARACTERS = 32_768
"""A grammar is compiled from a schema; one that is far longer than any real one could keep the engine busy."""

Stop = Annotated[str, Field(min_length=1, max_length=256)]
_ENGINES = (
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "top_k",
    "min_p",
    "min_tokens",
    "ignore_eos",
    "logit_bias",
)


class StreamOptions(BaseModel):
    include_usage: bool = False


class Sampling(BaseModel):
    """The fields that are used; others that OpenAI knows are accepted and have no effect."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    model: str = Field(max_length=200)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=MOST_CHOICES)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    stop: list[Stop] | None = Field(default=None, max_length=8)
    seed: int | None = Field(default=None, ge=-(1 << 63), lt=1 << 63)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    top_k: int | None = Field(default=None, ge=-1, lt=1 << 31)
    min_p: float | None = Field(default=None, ge=0, le=1)
    min_tokens: int | None = Field(default=None, ge=0, le=32768)
    ignore_eos: bool | None = None
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] | None = Field(default=None, max_length=300)

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @property
    def usage(self) -> bool:
        """Whether a stream shall end with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def overrides(self, max_tokens: int | None) -> dict[str, Any]:
        """What stands in the place of a card's generation settings."""
        given = {"max_tokens": max_tokens, "temperature": self.temperature, "top_p": self.top_p, "stop": self.stop}
        return {name: value for name, value in given.items() if value is not None}

    def extra(self, **more: Any) -> dict[str, Any] | None:
        """What only the engine knows; None for nearly all requests, which then pay for none of it."""
        given = {name: value for name in _ENGINES if (value := getattr(self, name)) is not None}
        given.update((name, value) for name, value in more.items() if value is not None)
        return given or None
