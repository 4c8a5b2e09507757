"""Files to documents: finding them, reading each in bounds, washing. What Ray Data's workers run; the driver is ``data_jobs.ingest``."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cluster.domain.base import digest_of
from cluster.domain.documents import Document, Dropped, Kept, Quarantined
from cluster.domain.recipes import IngestRecipe
from cluster.errors import InvalidInput, NotFound
from cluster.settings import ROOT
from data_jobs.chunk import chunk
from data_jobs.duplicates import signature
from data_jobs.extract import FORMATS
from data_jobs.extract.bounded import Extractor
from data_jobs.extract.part import Part, Unreadable
from data_jobs.on_ray import Row
from data_jobs.wash import wash

REFUSALS: dict[str, type[Dropped] | type[Quarantined]] = {"dropped": Dropped, "quarantined": Quarantined}


class Found(NamedTuple):
    """A file to ingest. ``source`` is how reports and citations name it: its path below the directory that was given."""

    path: str
    source: str
    bytes: int


def find_files(paths: Sequence[str]) -> list[Found]:
    """Every file under the paths, each once, in order of source. Hidden files and directories are left out."""
    found: dict[Path, tuple[str, str]] = {}
    for given in paths:
        root = _located(given)
        if root.is_file():
            found.setdefault(root.resolve(), (root.name, str(root)))
        elif root.is_dir():
            for file in root.rglob("*"):
                inside = file.relative_to(root)
                if file.is_file() and not any(part.startswith(".") for part in inside.parts):
                    found.setdefault(file.resolve(), (inside.as_posix(), file.as_posix()))
        else:
            raise NotFound(f"There is no file or directory '{given}'; give paths that this machine can read.")
    if not found:
        raise InvalidInput(f"There are no files under {', '.join(paths)}; give at least one of {', '.join(sorted(FORMATS))}.")
    times = Counter(short for short, _ in found.values())
    files = [Found(str(path), short if times[short] == 1 else long, path.stat().st_size) for path, (short, long) in found.items()]
    return sorted(files, key=lambda one: one.source)


def _located(given: str) -> Path:
    """A path of a recipe: as given, else (for recipes that ship with the project) below the project's root."""
    path = Path(given).expanduser()
    return path if path.exists() or not (ROOT / given).exists() else ROOT / given


@cache
def _extractor(seconds: float, megabytes: int) -> Extractor:
    return Extractor(seconds, megabytes)


def read_file(row: Row, recipe: IngestRecipe) -> Iterator[Row]:
    """Ray Data's step: a file to its documents, extracted and washed; one row each, kept or refused with a reason."""
    try:
        parts = _extractor(recipe.seconds_per_file, recipe.megabytes_per_file).extract(row["path"])
    except Unreadable as error:
        yield _refused(Quarantined(source=row["source"], reason=error.reason, detail=f"{row['source']}: {error.message}."))
        return
    for part in parts or [Part(text="")]:
        source = f"{row['source']}#{part.name}" if part.name else row["source"]
        if part.problem:
            yield _refused(Quarantined(source=source, reason=part.reason, detail=f"{source}: {part.problem}."))
            continue
        outcome = wash(_document(part, source, row["path"], recipe.corpus), recipe.min_chars)
        yield _kept(outcome.document) if isinstance(outcome, Kept) else _refused(outcome)


def _document(part: Part, source: str, path: str, corpus: str) -> Document:
    return Document(
        id="doc_" + digest_of([corpus, source])[:20],
        corpus=corpus,
        source=source,
        media_type=part.media_type or FORMATS[Path(path).suffix.lower()][0],
        title=part.title or ("" if part.name else Path(path).stem.replace("_", " ").replace("-", " ")),
        text=part.text,
        digest="",
        meta=part.meta,
    )


def _kept(document: Document) -> Row:
    identity = digest_of([document.source, document.title, document.media_type, document.digest])
    return {
        "source": document.source,
        "digest": document.digest,
        "identity": identity,
        "signature": signature(document.text),
        "document": document.model_dump_json(),
        "refusal": "",
        "body": "",
    }


def _refused(outcome: Dropped | Quarantined) -> Row:
    blank = {"digest": "", "identity": "", "signature": b"", "document": ""}
    return {"source": outcome.source, **blank, "refusal": type(outcome).__name__.lower(), "body": outcome.model_dump_json()}


def chunk_row(row: Row, gone: frozenset[str], recipe: IngestRecipe) -> Iterator[Row]:
    """Ray Data's step: a kept document to its passages; nothing for one that was refused or is a duplicate."""
    if not row["refusal"] and row["source"] not in gone:
        for passage in chunk(Document.model_validate_json(row["document"]), recipe.chunk_size, recipe.overlap):
            yield {"passage": passage.model_dump_json()}
