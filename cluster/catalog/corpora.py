"""Corpora: the versions of each and where their indexes lie."""

from sqlalchemy import select

from cluster.catalog.tables import corpora
from cluster.catalog.transaction import Work
from cluster.domain.documents import CorpusVersion
from cluster.errors import Conflict, NotFound, near


def add(work: Work, version: CorpusVersion) -> None:
    """Record a new version. Raises Conflict when another process took the number meanwhile."""
    body = version.model_dump(mode="json")
    row = {"corpus": version.corpus, "version": version.version, "digest": version.digest, "body": body}
    if not work.add_missing(corpora, row):
        raise Conflict(f"Corpus '{version.corpus}' already has a version {version.version}; run the ingest again.")


def versions(work: Work, corpus: str) -> list[CorpusVersion]:
    """All versions, oldest first."""
    statement = select(corpora.c.body).where(corpora.c.corpus == corpus).order_by(corpora.c.version)
    return work.bodies(CorpusVersion, statement)


def newest(work: Work, corpus: str) -> CorpusVersion:
    """The newest version. Raises NotFound with near names."""
    found = versions(work, corpus)
    if not found:
        close = near(corpus, names(work))
        hint = f"did you mean {' or '.join(close)}?" if close else f"treadle data ingest PATH --corpus {corpus} makes it."
        raise NotFound(f"There is no corpus '{corpus}'; {hint}")
    return found[-1]


def get(work: Work, corpus: str, version: int) -> CorpusVersion:
    """One version. Raises NotFound."""
    for one in versions(work, corpus):
        if one.version == version:
            return one
    raise NotFound(f"Corpus '{corpus}' has no version {version}; treadle data corpora shows what there is.")


def names(work: Work) -> list[str]:
    """The names of all corpora."""
    return [row[0] for row in work.run(select(corpora.c.corpus).distinct().order_by(corpora.c.corpus))]
