"""Rows to a recorded dataset: without repetitions, content addressed, published before it is recorded."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from cluster.artifacts import Artifacts
from cluster.catalog import Work, datasets
from cluster.domain.base import digest_of
from cluster.domain.conversations import Message
from cluster.domain.data_recipes import WashRecipe
from cluster.domain.datasets import Dataset, DatasetKind, Row, rows_digest
from cluster.errors import Conflict, InvalidInput
from data_jobs.masking import masked


def content_key(row: Row) -> str:
    """Equal for rows that teach the same, whatever they came from."""
    return digest_of(row.model_dump(mode="json", exclude={"source"}))


def distinct(rows: Iterable[Row]) -> list[Row]:
    """The rows in order, each content once: the first one stays."""
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(content_key(row), row)
    return list(found.values())


def masked_row(row: Row, recipe: WashRecipe) -> Row:
    """The row with personal data and secrets masked, the same value by the same mark in all its texts."""
    values = row.model_dump()
    places = [name for name in ("question", "answer", "chosen", "rejected", "text") if values.get(name)]
    history, passages = values.get("history", ()), values.get("passages", ())
    texts = [values[name] for name in places] + [message["content"] for message in history] + list(passages)
    clean = iter(masked(texts, recipe))
    changes: dict[str, Any] = {name: next(clean) for name in places}
    if history:
        changes["history"] = tuple(Message(role=message["role"], content=next(clean)) for message in history)
    if passages:
        changes["passages"] = tuple(next(clean) for _ in passages)
    return row.model_copy(update=changes)


def publish(artifacts: Artifacts, name: str, kind: DatasetKind, agent: str | None, rows: Sequence[Row]) -> Dataset:
    """Writes the rows to the artifact store and returns the record for them. Raises InvalidInput without rows."""
    if not rows:
        raise InvalidInput(f"Dataset '{name}' would have no rows; nothing was written. Give input that makes at least one.")
    came_from = Counter(_origin(row.source) for row in rows)
    bundle = artifacts.write_rows(rows)
    return Dataset(
        digest=rows_digest(list(rows)), name=name, kind=kind, agent=agent, rows=len(rows), uri=bundle.uri, sources=dict(came_from)
    )


def _origin(source: str) -> str:
    """A row's file, or the word before the colon of what is no file (turn:…). An address keeps its colon."""
    whole = source.partition("#")[0]
    return whole if "://" in whole else whole.partition(":")[0]


def record(work: Work, dataset: Dataset) -> bool:
    """Records the dataset; whether it is new. Raises Conflict when exactly these rows are a dataset of another name."""
    new = datasets.add(work, dataset)
    if not new:
        present = datasets.get(work, dataset.digest)
        if present.name != dataset.name:
            raise Conflict(f"The rows for dataset '{dataset.name}' are exactly those of '{present.ref}'; use that one.")
    return new
