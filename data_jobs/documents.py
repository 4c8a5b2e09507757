"""Pieces to documents: each read in bounds and washed, the results of a group kept as one shard. What Ray Data's workers run."""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cluster.domain.base import digest_of
from cluster.domain.data_recipes import IngestRecipe
from cluster.domain.documents import Document, Dropped, Kept, Quarantined, document_id
from data_jobs.duplicates import signature
from data_jobs.extract.bounded import Extractor
from data_jobs.extract.part import Options, Part, Unreadable
from data_jobs.on_ray import Row
from data_jobs.pieces import Piece, group_key
from data_jobs.shards import Shards
from data_jobs.wash import wash

REFUSALS: dict[str, type[Dropped] | type[Quarantined]] = {"dropped": Dropped, "quarantined": Quarantined}
READING = 2
"""Raised when the same bytes would give other documents: what was read before is then read again."""

_SHORT = ("piece", "source", "document_id", "refusal", "reason", "detail", "digest", "identity", "chars")
_LONG = ("media_type", "title", "text", "meta")
OUTLINE = (*_SHORT, "signature", "media_type")
"""The columns of a shard without the texts."""


def how_read(recipe: IngestRecipe) -> str:
    """Everything of a recipe that decides what a piece becomes."""
    decides = recipe.model_dump(
        mode="json", include={"corpus", "min_chars", "fields", "wash", "seconds_per_file", "megabytes_per_file"}
    )
    return digest_of([READING, decides])


def read_group(row: Row, recipe: IngestRecipe, root: str) -> Iterator[Row]:
    """Ray Data's step: the pieces of a group to documents, kept or refused, in one shard; gives how much was read."""
    pieces = [Piece(*one) for one in row["pieces"]]
    rows = [made for piece in pieces for made in read_piece(piece, recipe)]
    name = group_key(piece.key for piece in pieces)
    Shards(root).write(name, _table(rows), [piece.key for piece in pieces])
    yield {"shard": name, "documents": len(rows), "bytes": sum(piece.end - piece.start for piece in pieces)}


def read_piece(piece: Piece, recipe: IngestRecipe) -> Iterator[Row]:
    """A row for each document in the piece: its text, or why it is refused."""
    options = Options(piece.first, recipe.fields.text, recipe.fields.title)
    try:
        parts = _extractor(recipe.seconds_per_file, recipe.megabytes_per_file).extract(
            piece.path, piece.start, piece.end, options
        )
    except Unreadable as error:
        yield _refused(piece, Quarantined(source=piece.source, reason=error.reason, detail=f"{piece.source}: {error.message}."))
        return
    for part in parts:
        source = f"{piece.source}#{part.name}" if part.name else piece.source
        if part.problem:
            yield _refused(piece, Quarantined(source=source, reason=part.reason, detail=f"{source}: {part.problem}."))
            continue
        outcome = wash(_document(part, source, recipe.corpus), recipe.min_chars, recipe.wash)
        yield _kept(piece, outcome.document) if isinstance(outcome, Kept) else _refused(piece, outcome)


@cache
def _extractor(seconds: float, megabytes: int) -> Extractor:
    return Extractor(seconds, megabytes)


def _document(part: Part, source: str, corpus: str) -> Document:
    return Document(
        id=document_id(corpus, source),
        corpus=corpus,
        source=source,
        media_type=part.media_type,
        title=part.title or ("" if part.name else Path(source).stem.replace("_", " ").replace("-", " ")),
        text=part.text,
        digest="",
        meta=part.meta,
    )


def _kept(piece: Piece, document: Document) -> Row:
    return {
        "piece": piece.key,
        "source": document.source,
        "document_id": document.id,
        "refusal": "",
        "reason": "",
        "detail": "",
        "digest": document.digest,
        "identity": digest_of([document.source, document.title, document.media_type, document.digest]),
        "chars": len(document.text),
        "signature": signature(document.text),
        "media_type": document.media_type,
        "title": document.title,
        "text": document.text,
        "meta": document.model_dump_json(include={"meta"}),
    }


def _refused(piece: Piece, outcome: Dropped | Quarantined) -> Row:
    blank: Row = dict.fromkeys((*_SHORT, *_LONG), "")
    detail = outcome.detail if isinstance(outcome, Quarantined) else ""
    said = {"refusal": type(outcome).__name__.lower(), "reason": outcome.reason, "detail": detail}
    return {**blank, "piece": piece.key, "source": outcome.source, "chars": 0, "signature": b"", **said}


def refusal_of(row: Row) -> Dropped | Quarantined:
    """The outcome that a refused row stands for."""
    kind = REFUSALS[row["refusal"]]
    detail = {"detail": row["detail"]} if kind is Quarantined else {}
    return kind(source=row["source"], reason=row["reason"], **detail)


def document_of(row: Row, corpus: str) -> Document:
    """The document in a kept row."""
    return Document(
        id=row["document_id"],
        corpus=corpus,
        source=row["source"],
        media_type=row["media_type"],
        title=row["title"],
        text=row["text"],
        digest=row["digest"],
        **json.loads(row["meta"]),
    )


def _table(rows: Sequence[Row]) -> Any:
    import pyarrow

    kinds = {"chars": pyarrow.int64(), "signature": pyarrow.binary()}
    names = (*_SHORT, "signature", *_LONG)
    fields = [pyarrow.field(name, kinds.get(name, pyarrow.large_string())) for name in names]
    columns = [pyarrow.array([row[name] for row in rows], field.type) for name, field in zip(names, fields, strict=True)]
    return pyarrow.Table.from_arrays(columns, schema=pyarrow.schema(fields))
