"""What an index is made of on disk, and the words of its lexical search."""

import json
import re
from pathlib import Path
from typing import Any

from cluster.errors import IntegrityError, NotFound

FORMAT = 2
PASSAGES, OFFSETS, DOCUMENTS = "passages.jsonl", "offsets.npy", "documents.parquet"
VECTORS, RAW_VECTORS, LEXICAL, MANIFEST = "vectors.faiss", "vectors.f16", "lexical", "index.json"
READERS, ROW_READERS = "readers.json", "readers.npy"

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The lexical search's words: runs of letters, digits and underscores, case folded. No stemming, no stop words."""
    return _WORD.findall(text.casefold())


def manifest_of(directory: Path) -> dict[str, Any]:
    """The manifest of a finished index. Raises NotFound without one, IntegrityError when it has another format."""
    try:
        manifest: dict[str, Any] = json.loads((directory / MANIFEST).read_text())
    except FileNotFoundError:
        raise NotFound(f"There is no finished index at {directory}; run treadle data ingest.") from None
    if manifest["format"] != FORMAT:
        raise IntegrityError(f"The index at {directory} has format {manifest['format']}, not {FORMAT}; ingest its corpus again.")
    return manifest


def sources_of(directory: Path) -> dict[str, str]:
    """Document id → source, of the documents in the index at ``directory``, without opening it."""
    import pyarrow.parquet as parquet

    columns = parquet.read_table(directory / DOCUMENTS, columns=["document_id", "source"]).to_pydict()
    return dict(zip(columns["document_id"], columns["source"], strict=True))
