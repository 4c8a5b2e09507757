"""Documents into a corpus: extract → wash → drop duplicates → chunk → index.

    python -m data_jobs.ingest --recipe configs/data/ingest.yaml

A new version of the corpus holds exactly the documents under the recipe's paths: what is gone from them is gone from it. A file that
cannot be read is set aside with a reason and the rest goes on. Everything is recorded in one transaction at the end; the same
documents again make no new version.
"""

import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from cluster import job_run
from cluster.catalog import Work, corpora
from cluster.domain.documents import CorpusVersion, Dropped, IngestReport, Passage, Quarantined
from cluster.domain.recipes import IngestRecipe
from cluster.embedding import embedder_name
from cluster.errors import InvalidInput
from cluster.job_run import JobRun
from data_jobs import index
from data_jobs.documents import REFUSALS, chunk_row, find_files, read_file
from data_jobs.duplicates import Fingerprint, find_duplicates
from data_jobs.on_ray import connect, dataset_of, mapped, tasks

_PASSAGES_PER_BATCH = 256


def main(argv: Sequence[str] | None = None) -> int:
    """The job: ``--run ID`` or ``--recipe FILE``; returns the exit code."""
    return job_run.main("data_jobs.ingest", IngestRecipe, ingest, argv)


def ingest(job: JobRun, recipe: IngestRecipe) -> dict[str, Any]:
    """Makes a new version of the recipe's corpus; returns the report. Raises InvalidInput when there would be nothing in it."""
    began = time.monotonic()
    files = find_files(recipe.paths)
    embedder = job.settings.models.embedder.location
    job.progress(0.02, f"reading {len(files)} files")
    connect(job.settings)
    source = dataset_of([one._asdict() for one in files], sum(one.bytes for one in files))
    read = mapped(source, partial(read_file, recipe=recipe), job.settings).materialize()

    job.progress(0.4, "looking for duplicates")
    prints, identities, refused = _outcomes(read)
    twins = find_duplicates(prints, recipe.near_duplicate)
    refused = sorted([*refused, *twins], key=lambda one: one.source)
    gone = frozenset(twin.source for twin in twins)
    kept = [identity for source, identity in identities.items() if source not in gone]
    if not kept:
        raise InvalidInput(_nothing_left(recipe, len(files), refused))

    name = embedder_name(embedder)
    digest = index.corpus_digest(kept, recipe.chunk_size, recipe.overlap, name)
    with job.catalog.reading() as work:
        present = _newest(work, recipe.corpus)
    changed = present is None or present.digest != digest
    if changed:
        passages, vectors = _embedded(job, read, gone, recipe, embedder)
        job.progress(0.9, f"indexing {len(passages)} passages")
        made_of = {"digest": digest, "documents": len(kept), "passages": len(passages), "embedder": name}
        bundle = index.publish(job.artifacts, passages, vectors, {"corpus": recipe.corpus, **made_of})
        with job.catalog.transaction() as work:
            newest = _newest(work, recipe.corpus)
            version = newest.version + 1 if newest else 1
            present = CorpusVersion(corpus=recipe.corpus, version=version, index_uri=bundle.uri, **made_of)
            corpora.add(work, present)
    assert present is not None
    report = IngestReport(
        corpus=recipe.corpus,
        version=present.version,
        digest=digest,
        documents_in=len(kept) + len(refused),
        kept=len(kept),
        dropped=tuple(one for one in refused if isinstance(one, Dropped)),
        quarantined=tuple(one for one in refused if isinstance(one, Quarantined)),
        passages=present.passages,
        bytes_in=sum(one.bytes for one in files),
        seconds=time.monotonic() - began,
    )
    job.progress(
        1.0, f"{recipe.corpus} version {present.version}" if changed else "nothing changed", documents=float(report.kept)
    )
    return {**report.summary(), "changed": changed}


def _outcomes(read: Any) -> tuple[list[Fingerprint], dict[str, str], list[Dropped | Quarantined]]:
    """What the driver keeps of the documents: fingerprints, identities by source, and the refusals. The texts stay in Ray."""
    prints: list[Fingerprint] = []
    identities: dict[str, str] = {}
    refused: list[Dropped | Quarantined] = []
    for row in read.select_columns(["source", "digest", "identity", "signature", "refusal", "body"]).iter_rows():
        if row["refusal"]:
            refused.append(REFUSALS[row["refusal"]].model_validate_json(row["body"]))
        else:
            prints.append(Fingerprint(row["source"], row["digest"], row["signature"]))
            identities[row["source"]] = row["identity"]
    return prints, identities, refused


def _embedded(
    job: JobRun, read: Any, gone: frozenset[str], recipe: IngestRecipe, embedder: str
) -> tuple[list[Passage], list[np.ndarray]]:
    """All passages with their vectors, chunked and embedded by Ray's workers, in no particular order."""
    chunked = mapped(read, partial(chunk_row, gone=gone, recipe=recipe), job.settings)
    embed = partial(index.embed_batch, embedder=embedder)
    passages: list[Passage] = []
    vectors: list[np.ndarray] = []
    for batch in chunked.map_batches(embed, batch_size=_PASSAGES_PER_BATCH, compute=tasks(job.settings)).iter_batches():
        passages += [Passage.model_validate_json(row) for row in batch["passage"]]
        vectors += list(batch["vector"])
        job.progress(0.5, f"embedded {len(passages)} passages")
    return passages, vectors


def _newest(work: Work, corpus: str) -> CorpusVersion | None:
    found = corpora.versions(work, corpus)
    return found[-1] if found else None


def _nothing_left(recipe: IngestRecipe, files: int, refused: Sequence[Dropped | Quarantined]) -> str:
    why = ", ".join(f"{count} {reason}" for reason, count in Counter(one.reason for one in refused).most_common())
    return (
        f"Corpus '{recipe.corpus}' would be empty: of {files} files none gave a document to keep ({why}); nothing was changed. "
        "Give at least one file with readable text."
    )


if __name__ == "__main__":
    raise SystemExit(main())
