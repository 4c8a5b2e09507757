"""Documents, passages, and what became of each on the way in. Every report adds up."""

from collections import Counter
from typing import Any

from pydantic import Field

from cluster.domain.base import Frozen, Name, digest_of
from cluster.domain.users import Access


def document_id(corpus: str, source: str) -> str:
    """How a document is called wherever its text went: equal for every version of it."""
    return "doc_" + digest_of([corpus, source])[:20]


def is_of(said: str, source: str) -> bool:
    """Whether a document named ``said`` is ``source`` or one of its records ("a.csv#row 3" is of "a.csv")."""
    return said == source or said.startswith(f"{source}#")


class Document(Frozen):
    """One source file or record after extraction. ``digest`` is the SHA-256 of its washed text."""

    id: str
    corpus: Name
    source: str
    media_type: str
    title: str = ""
    text: str
    digest: str
    meta: dict[str, Any] = Field(default_factory=dict)


class Passage(Frozen):
    """A retrievable piece of a document: ``text`` is ``document.text[start:end]`` (characters). ``page`` counts from 1, where the
    document has pages. ``cut`` names what could not be kept whole: a table row, a code block. ``readers``: who may read it; None: everybody
    who may ask an agent that holds the corpus."""

    id: str
    document_id: str
    corpus: Name
    number: int
    text: str
    start: int
    end: int
    heading: str = ""
    source: str = ""
    page: int | None = None
    cut: str = ""
    readers: Access | None = Field(
        default=None, exclude_if=lambda value: value is None
    )  # so that open passages stay as they were


class Kept(Frozen):
    """A step let the document through."""

    document: Document


class Dropped(Frozen):
    """A step refused the document: ``reason`` is a word such as near_duplicate; ``of`` names the twin that was kept."""

    source: str
    reason: str
    of: str | None = None


class Quarantined(Frozen):
    """The file could not be read within its bounds; it is set aside with a sentence that says why."""

    source: str
    reason: str
    detail: str = ""


LISTED = 200
"""How many refusals a summary lists; the report's files have all of them."""


class IngestReport(Frozen):
    """What an ingest did. ``documents_in`` always equals kept + dropped + quarantined."""

    corpus: Name
    version: int
    digest: str
    documents_in: int
    kept: int
    dropped: tuple[Dropped, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    passages: int
    bytes_in: int = 0
    seconds: float = 0.0

    def adds_up(self) -> bool:
        """Whether every document that came in is accounted for."""
        return self.documents_in == self.kept + len(self.dropped) + len(self.quarantined)

    def summary(self) -> dict[str, Any]:
        """The report as the command line and the run record show it."""
        return {
            "corpus": self.corpus,
            "version": self.version,
            "digest": self.digest,
            "documents": {
                "in": self.documents_in,
                "kept": self.kept,
                "dropped": dict(Counter(item.reason for item in self.dropped)),
                "quarantined": dict(Counter(item.reason for item in self.quarantined)),
            },
            "passages": self.passages,
            "seconds": round(self.seconds, 3),
            "mb_per_s": round(self.bytes_in / 1e6 / self.seconds, 3) if self.seconds else 0.0,
            "dropped": [item.model_dump(exclude_none=True) for item in self.dropped[:LISTED]],
            "quarantined": [item.model_dump() for item in self.quarantined[:LISTED]],
        }


class CorpusVersion(Frozen):
    """One immutable version of a corpus and its index."""

    corpus: Name
    version: int
    digest: str
    index_uri: str
    documents: int
    passages: int
    embedder: str
