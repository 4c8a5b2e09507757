"""Recipes of the data jobs: documents, conversations, synthesis and signals."""

from datetime import date
from typing import Literal

from pydantic import Field, field_validator, model_validator

from cluster.domain.base import Frozen, Name
from cluster.domain.datasets import DatasetKind
from cluster.domain.readers import AccessRule

PiiKind = Literal["email", "phone", "iban", "card", "ip"]


class WashRecipe(Frozen):
    """What washing takes out of documents. Secrets (keys, tokens, passwords) are taken out whatever the recipe says."""

    mask: tuple[PiiKind, ...] = Field(
        default=("email", "phone", "iban", "card", "ip"), description="personal data replaced by [EMAIL_1], [PHONE_1], …"
    )
    names: bool = Field(default=False, description="also people's names and places; needs the presidio extra and its models")
    phone_regions: tuple[str, ...] = Field(
        default=("US", "GB", "DE", "FR"), description="countries (ISO 3166) whose numbers are known without their country code"
    )
    languages: tuple[str, ...] = Field(
        default=(), description="ISO 639-1 codes to keep; empty: any. Short texts are never judged"
    )
    quality: Literal["none", "gopher"] = Field(
        default="none",
        description="gopher: the rules of Rae et al. 2021 and Raffel et al. 2020. They are rules for prose from the web: code, "
        "tables and command references fail them, so the default is none",
    )
    fold_from: int = Field(
        default=12, ge=0, description="log lines, stack frames or equal lines in a row that are folded; 0: never, else at least 8"
    )
    replies: bool = Field(default=True, description="take quoted replies and signatures out of mail and chats")

    @field_validator("phone_regions")
    @classmethod
    def _regions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [code for code in value if not (len(code) == 2 and code.isascii() and code.isalpha() and code.isupper())]
        if wrong:
            raise ValueError(f"'{wrong[0]}' is not a country code; give two capital letters such as US or DE")
        return value

    @field_validator("languages")
    @classmethod
    def _codes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [code for code in value if not (2 <= len(code) <= 3 and code.isascii() and code.isalpha() and code.islower())]
        if wrong:
            raise ValueError(f"'{wrong[0]}' is not a language code; give ISO 639-1 letters such as en or de")
        return value

    @field_validator("fold_from")
    @classmethod
    def _enough_to_fold(cls, value: int) -> int:
        if 0 < value < 8:
            raise ValueError(f"fold_from {value} would fold what it has to keep; give 0 (never) or at least 8")
        return value


class FieldsRecipe(Frozen):
    """Which fields of a record (JSON, CSV, Parquet) hold its text and title, where they are not named as usual."""

    text: str | None = None
    title: str | None = None


class IngestRecipe(Frozen):
    """Documents into a corpus with a versioned index. ``chunk_size`` and ``overlap`` are counted in ``chunk_unit``."""

    paths: tuple[str, ...] = Field(min_length=1, description="files, directories, URLs")
    corpus: Name
    chunk_size: int = Field(default=512, ge=32)
    overlap: int = Field(default=50, ge=0)
    chunk_unit: Literal["characters", "tokens"] = Field(default="characters", description="tokens: those of the embedder")
    dry_run: bool = Field(default=False, description="only say what would be read")
    vectors: bool = Field(default=True, description="false: an index of words alone, many times as fast to make")
    fields: FieldsRecipe = FieldsRecipe()
    min_chars: int = Field(default=20, ge=1)
    wash: WashRecipe = WashRecipe()
    access: tuple[AccessRule, ...] = Field(
        default=(),
        max_length=1000,
        description="who may read which documents; the last rule that fits decides, and none: everybody",
    )
    near_duplicate: float = Field(default=0.85, gt=0.0, le=1.0, description="Jaccard similarity from which two documents are one")
    seconds_per_file: float = Field(default=60.0, gt=0)
    megabytes_per_file: int = Field(default=1024, ge=64, description="memory bound of an extraction")

    @model_validator(mode="after")
    def _overlap_fits(self) -> "IngestRecipe":
        if self.overlap >= self.chunk_size:
            raise ValueError(f"overlap {self.overlap} must be smaller than chunk_size {self.chunk_size}")
        return self


class ConversationsRecipe(Frozen):
    """Conversation files into a dataset. ``since`` and ``until`` are days (UTC), both included."""

    paths: tuple[str, ...] = Field(min_length=1)
    dataset: Name
    agent: Name
    categories: tuple[str, ...] = ()
    min_quality: float | None = None
    kind: DatasetKind = "sft"
    fields: dict[str, str] = Field(default_factory=dict, description="our name → the files' name of a key or column")
    assistant_authors: tuple[str, ...] = Field(default=(), description="authors who answer, in logs with names for roles")
    gap_hours: float = Field(default=8.0, gt=0, description="silence that ends a conversation, in logs without ids")
    since: date | None = None
    until: date | None = None
    score_missing: bool = Field(default=True, description="score conversations that come without a quality")
    categories_by_example: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="category → texts like those people write, for conversations without one"
    )
    category_threshold: float = Field(default=0.35, ge=-1.0, le=1.0, description="cosine to the examples' mean, at least")
    wash: WashRecipe = WashRecipe()

    @model_validator(mode="after")
    def _examples_and_days(self) -> "ConversationsRecipe":
        empty = next(
            (name for name, texts in self.categories_by_example.items() if not any(text.strip() for text in texts)), None
        )
        if empty is not None:
            raise ValueError(f"category '{empty}' of categories_by_example has no example; give it at least one text")
        if self.since and self.until and self.since > self.until:
            raise ValueError(f"since {self.since} is after until {self.until}; no conversation could be kept")
        return self


class SynthesiseRecipe(Frozen):
    """Passages of a corpus into question/answer rows. Without an endpoint, templates make them.

    ``endpoint`` is for servers that want no key; one with a key is the refiner of configs/models.yaml, so that no key is ever part of
    a recipe, which the catalog keeps. Tokens are those the server counted, or a quarter of the characters where it does not say.
    """

    corpus: Name
    version: int | None = Field(default=None, ge=1, description="default: the newest")
    dataset: Name
    agent: Name
    kinds: tuple[Literal["qa", "reasoning"], ...] = Field(default=("qa",), min_length=1)
    endpoint: str | None = Field(default=None, description="default: the refiner's; none there either: templates")
    model: str | None = Field(default=None, description="the model's name at the endpoint; default: the refiner's")
    per_passage: int = Field(default=3, ge=1, le=20, description="pairs of each kind a passage is asked for")
    max_samples: int | None = Field(default=1000, ge=1, description="rows at most, spread evenly over documents; null: no bound")
    min_chars: int = Field(default=40, ge=1, description="shorter passages are left out")
    temperature: float = Field(default=0.3, ge=0.0, le=2.0)
    max_tokens: int = Field(default=1024, ge=16, description="of one answer")
    max_tokens_total: int | None = Field(default=None, ge=1, description="in and out, over all answers the run rests on")
    price_per_million_in: float = Field(default=0.0, ge=0.0)
    price_per_million_out: float = Field(default=0.0, ge=0.0)
    concurrency: int = Field(default=8, ge=1, le=512)
    retries: int = Field(default=4, ge=0, le=20)
    timeout: float = Field(default=60.0, gt=0, description="seconds for one answer")
    top_k: int = Field(default=5, ge=1, le=100, description="rank by which the question must find its passage")
    judge: bool = Field(default=True, description="ask the judge of configs/models.yaml, where it has an endpoint")
    judge_threshold: int = Field(default=4, ge=1, le=5)
    near_duplicate: float = Field(default=0.95, gt=0.0, le=1.0, description="cosine from which two questions are one")
    cite: bool = Field(default=False, description="end every answer with [1], for agents whose rules ask for citations")
    dry_run: bool = Field(default=False, description="count passages, requests and tokens; ask and write nothing")
    seed: int = 7


class SignalsRecipe(Frozen):
    """Signals that are not in a dataset yet → SFT, DPO and router datasets, and regression questions."""

    agent: Name | None = Field(default=None, description="default: every agent with signals")
    wash: WashRecipe = Field(default=WashRecipe(mask=()), description="secrets are taken out in any case")
