"""Documents into a corpus: extract → wash → drop duplicates → chunk → index.

    python -m data_jobs.ingest --recipe configs/data/ingest.yaml

A new version of the corpus holds exactly the documents under the recipe's paths: what is gone from them is gone from it. A file that
cannot be read is set aside with a reason and the rest goes on. Work that is done is kept in the artifact store under its content
(``data_jobs.shards``): a run that is killed is continued by the next one, and after a small change only what changed is read, embedded and
indexed. The version is recorded in one transaction at the end; the same documents again make no new version.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from cluster import job_run
from cluster.catalog import Work, corpora, forgotten
from cluster.domain.data_recipes import IngestRecipe
from cluster.domain.documents import CorpusVersion, Dropped, IngestReport, Quarantined, document_id, is_of
from cluster.domain.readers import key_of, marked, readers_of, rule_for
from cluster.embedding import dimension_of, embedder_name
from cluster.errors import InvalidInput, NotFound
from cluster.job_run import JobRun
from cluster.passage_index import PassageIndex
from cluster.scratch import working_folder
from cluster.settings import cpu_cores
from data_jobs import index
from data_jobs.documents import OUTLINE, how_read, read_group, refusal_of
from data_jobs.duplicates import Fingerprint, find_duplicates
from data_jobs.freed import give_back
from data_jobs.on_ray import Row, Step, connect, spread
from data_jobs.pieces import Piece, group_key, grouped, pieces_of
from data_jobs.progress import Rate
from data_jobs.report import page
from data_jobs.shards import Shards
from data_jobs.sources import gather
from data_jobs.wash import check

_READ_BYTES, _READ_PIECES = 4 << 20, 256
_EMBED_CHARS, _EMBED_DOCUMENTS = 256 << 10, 512
"""What is kept as one shard, at most."""
_FEW = 48 << 10
"""Characters that are embedded before torch, which is faster, has been imported. After a small change most passages keep their
vectors, so that few are left of more."""
_FILE_COSTS = 2 << 10
"""What opening a file costs, in bytes read meanwhile."""
_READ_PER_TASK, _CHUNK_PER_TASK, _EMBED_PER_TASK = 32 << 20, 12 << 20, 384 << 10
"""Bytes, and characters, that make a task of some seconds."""
_READ_HERE, _EMBED_HERE = 1 << 20, 256 << 10
"""Bytes to read, and characters to embed, below which the driver does the work itself: starting workers would take longer."""


def main(argv: Sequence[str] | None = None) -> int:
    """The job: ``--run ID`` or ``--recipe FILE``; returns the exit code."""
    return job_run.main("data_jobs.ingest", IngestRecipe, ingest, argv)


def ingest(job: JobRun, recipe: IngestRecipe) -> dict[str, Any]:
    """Makes a new version of the recipe's corpus; returns the report. Raises InvalidInput when there would be nothing in it."""
    return Ingest(job, recipe).run()


@dataclass
class Inventory:
    """What is known of the documents, without their texts."""

    refused: list[Dropped | Quarantined] = field(default_factory=list)
    kept: dict[str, "Kept"] = field(default_factory=dict)
    """By document id."""
    ruled: Counter[str] = field(default_factory=Counter)
    """How many documents each rule of access decided on."""


class Kept(NamedTuple):
    """A document that stays: what it is, which shard has its text and under which identity, how long that is."""

    identity: str
    washed: str
    shard: str
    chars: int
    media_type: str


class Ingest:
    """One run. The driver holds names, digests and counts; texts and vectors go from worker to store."""

    def __init__(self, job: JobRun, recipe: IngestRecipe) -> None:
        self.job, self.recipe = job, recipe
        root = f"{job.artifacts.root}/corpora/{recipe.corpus}"
        self.washed, self.embedded = Shards(f"{root}/washed"), Shards(f"{root}/embedded")
        self.embedder = job.settings.models.embedder.location if recipe.vectors else ""
        self.how = index.how_indexed(recipe, embedder_name(self.embedder) if recipe.vectors else "")
        with job.catalog.reading() as work:
            self.forgotten = forgotten.documents(work, recipe.corpus)
        self.seconds: dict[str, float] = {}
        self.began = self._moment = time.monotonic()

    def run(self) -> dict[str, Any]:
        recipe, job = self.recipe, self.job
        check(recipe.wash)
        pieces, refused = self._found()
        if recipe.dry_run:
            return self._outlook(pieces, refused)
        names = self._read(pieces)
        inventory = self._without_duplicates({piece.key for piece in pieces}, names)
        inventory.refused = sorted([*refused, *inventory.refused], key=lambda one: one.source)
        if not inventory.kept:
            raise InvalidInput(_nothing_left(recipe, len(pieces), inventory.refused))
        digest = index.corpus_digest((one.identity for one in inventory.kept.values()), self.how)
        with job.catalog.reading() as work:
            present = _newest(work, recipe.corpus)
        changed = present is None or present.digest != digest
        if changed:
            present = self._new_version(inventory, digest, present)
        assert present is not None
        self._tidy({piece.key for piece in pieces}, names)
        report = IngestReport(
            corpus=recipe.corpus,
            version=present.version,
            digest=digest,
            documents_in=len(inventory.kept) + len(inventory.refused),
            kept=len(inventory.kept),
            dropped=tuple(one for one in inventory.refused if isinstance(one, Dropped)),
            quarantined=tuple(one for one in inventory.refused if isinstance(one, Quarantined)),
            passages=present.passages,
            bytes_in=sum(piece.end - piece.start for piece in pieces),
            seconds=time.monotonic() - self.began,
        )
        said = f"{recipe.corpus} version {present.version}" if changed else "nothing changed"
        job.progress(1.0, said, documents=float(report.kept))
        stages = {name: round(took, 3) for name, took in self.seconds.items()}
        access = {"access": {rule.sources: inventory.ruled[rule.sources] for rule in recipe.access}} if recipe.access else {}
        page_at = self._publish_report(report, inventory)
        return {**report.summary(), **access, "changed": changed, "stages": stages, "report": page_at}

    def _found(self) -> tuple[list[Piece], list[Quarantined]]:
        """The pieces to read, and what cannot be a piece."""
        self.job.progress(0.01, "looking for files")
        spool = self.job.settings.home / "spool" / self.recipe.corpus
        found = gather(self.recipe.paths, spool, self.job.settings.sources, lambda said: self.job.progress(0.01, said))
        pieces = pieces_of([(one.path, one.source) for one in found.files], how_read(self.recipe))
        self._lap("find")
        return pieces, list(found.refused)

    def _known(self, pieces: Sequence[Piece]) -> dict[str, list[str]]:
        """The shards that hold some of the pieces, with the keys that they hold."""
        wanted = {piece.key for piece in pieces}
        return {name: keys for name in self.washed.names() if (keys := self.washed.keys(name)) and not wanted.isdisjoint(keys)}

    def _outlook(self, pieces: Sequence[Piece], refused: Sequence[Quarantined]) -> dict[str, Any]:
        """What a run would read, without reading it."""
        there = {key for keys in self._known(pieces).values() for key in keys}
        new = [piece for piece in pieces if piece.key not in there]
        return {
            "corpus": self.recipe.corpus,
            "files": len({piece.path for piece in pieces}),
            "refused": len(refused),
            "mb": round(sum(map(_size, pieces)) / 1e6, 3),
            "files_to_read": len({piece.path for piece in new}),
            "mb_to_read": round(sum(map(_size, new)) / 1e6, 3),
        }

    def _read(self, pieces: Sequence[Piece]) -> list[str]:
        """Reads what no shard holds yet; the names of all shards that hold some of the pieces, in the pieces' order."""
        known = self._known(pieces)
        there = {key for keys in known.values() for key in keys}
        groups = list(
            grouped([one for one in pieces if one.key not in there], lambda one: one.key, _size, _READ_BYTES, _READ_PIECES)
        )
        names = [group_key(piece.key for piece in group) for group in groups]
        items = [({"pieces": group}, float(sum(map(_size, group)) + len(group) * _FILE_COSTS)) for group in groups]
        total = sum(map(_size, pieces))
        new = sum(_size(piece) for group in groups for piece in group)
        rate = Rate(self.job, 0.02, 0.4, "reading", new / 1e6, "MB")
        step = partial(read_group, recipe=self.recipe, root=self.washed.root)
        for done in self._each(items, step, new < _READ_HERE, _READ_PER_TASK):
            rate.add(done["bytes"] / 1e6)
        self.job.progress(0.4, f"read {new / 1e6:.1f} MB, knew {(total - new) / 1e6:.1f} MB")
        self._lap("read")
        known |= {name: [piece.key for piece in group] for name, group in zip(names, groups, strict=True)}
        place = {piece.key: number for number, piece in enumerate(pieces)}
        return sorted(known, key=lambda name: min(place[key] for key in known[name] if key in place))

    def _without_duplicates(self, wanted: set[str], names: Sequence[str]) -> Inventory:
        """The inventory of the pieces' documents, each text once."""
        self.job.progress(0.42, "looking for duplicates")
        found = Inventory()
        seen: set[str] = set()

        def prints() -> Iterator[Fingerprint]:
            for name in names:
                # Two shards may hold the same piece, when a run was killed between them: the first one counts.
                mine = {key for key in self.washed.keys(name) or () if key in wanted and key not in seen}
                seen.update(mine)
                for batch in self.washed.batches(name, OUTLINE):
                    for row in batch.to_pylist():
                        if row["piece"] not in mine:
                            continue
                        if row["refusal"]:
                            found.refused.append(refusal_of(row))
                            continue
                        if self._is_forgotten(row["source"]):
                            found.refused.append(Dropped(source=row["source"], reason="forgotten"))
                            continue
                        readers = readers_of(self.recipe.access, row["source"])
                        rule = rule_for(self.recipe.access, row["source"]) if self.recipe.access else None
                        found.ruled.update([rule.sources] if rule else ())
                        identity = marked(row["identity"], readers)
                        media_type = sys.intern(row["media_type"])
                        found.kept[row["document_id"]] = Kept(identity, row["identity"], name, row["chars"], media_type)
                        yield Fingerprint(row["source"], row["digest"], row["signature"], key_of(readers))

        twins = find_duplicates(prints(), self.recipe.near_duplicate)
        for twin in twins:
            del found.kept[document_id(self.recipe.corpus, twin.source)]
        found.refused += twins
        self._lap("duplicates")
        return found

    def _new_version(self, inventory: Inventory, digest: str, present: CorpusVersion | None) -> CorpusVersion:
        base = self._base(present)
        there = base.documents if base else {}
        new = {one: kept for one, kept in inventory.kept.items() if one not in there or there[one][0] != kept.identity}
        without = [one for one in there if one not in inventory.kept or one in new]
        names = self._embed(new, base)
        passages = sum(rows for one, (_, _, rows) in there.items() if one not in set(without))
        new_passages = sum(len(batch) for name in names for batch in self.embedded.batches(name, ["identity"]))
        passages += new_passages
        dimension = base.dimension if base else dimension_of(self.embedder) if self.recipe.vectors else 0
        made_of = {"digest": digest, "documents": len(inventory.kept), "embedder": self.how["embedder"]}
        # Of what is to be forgotten no trace may stay in the new index; other dead rows may wait.
        compact = bool(self.forgotten)
        source = index.NewIndex(base, frozenset(without), self.embedded, names, compact, bool(self.recipe.access))
        meta = {"corpus": self.recipe.corpus, "how": {"how": self.how}, **made_of}
        rate = Rate(self.job, 0.9, 0.99, "indexing", passages / 1e3, "thousand passages")
        rate.add((passages - new_passages) / 1e3)
        bundle = source.publish(self.job.artifacts, dimension, passages, meta, lambda count: rate.add(count / 1e3))
        with self.job.catalog.transaction() as work:
            newest = _newest(work, self.recipe.corpus)
            version = CorpusVersion(
                corpus=self.recipe.corpus,
                version=newest.version + 1 if newest else 1,
                index_uri=bundle.uri,
                passages=bundle.meta["passages"],
                **made_of,
            )
            corpora.add(work, version)
            forgotten.unmark(work, "corpus", self.recipe.corpus)
        self._lap("index")
        return version

    def _base(self, present: CorpusVersion | None) -> PassageIndex | None:
        """The index to continue: the newest one, when it was made in the same way."""
        if present is None:
            return None
        try:
            opened = PassageIndex.open(self.job.artifacts.fetch(present.index_uri))
        except NotFound:
            return None
        return opened if opened.manifest.get("how") == self.how else None

    def _embed(self, new: dict[str, Kept], base: PassageIndex | None = None) -> list[str]:
        """Chunks and embeds these documents; the names of the shards with their passages, in the documents' order."""
        by_shard: dict[str, list[Kept]] = {}
        for one in new.values():
            by_shard.setdefault(one.shard, []).append(one)
        items, names, chars_left = [], [], 0
        there = set(self.embedded.names())
        for shard in by_shard:
            for group in grouped(by_shard[shard], lambda one: one.identity, _length, _EMBED_CHARS, _EMBED_DOCUMENTS):
                name = group_key([*(one.identity for one in group), *map(str, self.how.values())])
                names.append(name)
                if name not in there:
                    chars = sum(map(_length, group))
                    documents = [one.washed for one in group]
                    items.append(({"shard": shard, "documents": documents, "name": name}, float(chars)))
                    chars_left += chars
        doing = "embedding" if self.recipe.vectors else "chunking"
        rate = Rate(self.job, 0.45, 0.9, doing, chars_left / 1e6, "MB")
        here = chars_left < (_EMBED_HERE if self.recipe.vectors else _READ_HERE)
        few = chars_left < _FEW or (base is not None and chars_left < _EMBED_HERE)
        how = index.Embedding(
            embedder=self.embedder,
            threads=cpu_cores() if here else 1,
            bulk=not few,
            base=str(base.directory) if base and "://" not in self.job.artifacts.root else "",
        )
        step = partial(index.embed_group, recipe=self.recipe, embedding=how, washed=self.washed.root, embedded=self.embedded.root)
        passages = 0
        for done in self._each(items, step, here, _EMBED_PER_TASK if self.recipe.vectors else _CHUNK_PER_TASK):
            passages += done["passages"]
            rate.add(done["chars"] / 1e6, passages=float(passages))
        self._lap("embed")
        return names

    def _is_forgotten(self, source: str) -> bool:
        return any(is_of(source, one) for one in self.forgotten)

    def _each(self, items: Sequence[tuple[Row, float]], step: Step, here: bool, per_task: float) -> Iterator[Row]:
        """``step`` over the items, each with its weight: in this process when there is little to do, else on Ray."""
        if here:
            for item, _ in items:
                yield from step(item)
        else:
            connect(self.job.settings, self.job.local)
            yield from spread(items, step, self.job.settings, per_task)

    def _publish_report(self, report: IngestReport, inventory: Inventory) -> str:
        """The whole report as files: a page to look at, and every refusal, of which the run's record holds the first only."""
        lengths = [one.chars for one in inventory.kept.values()]
        kinds = Counter(one.media_type for one in inventory.kept.values())
        with working_folder("report") as scratch:
            (scratch / "report.html").write_text(page(report, lengths, kinds, self.seconds), encoding="utf-8")
            with (scratch / "refused.jsonl").open("w", encoding="utf-8") as file:
                for one in inventory.refused:
                    file.write(json.dumps({"outcome": type(one).__name__.lower(), **one.model_dump(exclude_none=True)}) + "\n")
            return self.job.artifacts.publish("report", scratch, {"corpus": report.corpus, "version": report.version}).uri

    def _tidy(self, wanted: set[str], names: Sequence[str]) -> None:
        """Removes what the newest version does not need to be continued: passages that are in the index, texts of no piece."""
        self.embedded.remove(self.embedded.names())
        self.washed.remove(set(self.washed.names()) - set(names))

    def _lap(self, stage: str) -> None:
        moment = time.monotonic()
        self.seconds[stage] = moment - self._moment
        self._moment = moment
        give_back()


def _size(piece: Piece) -> int:
    return piece.end - piece.start


def _length(one: Kept) -> int:
    return one.chars


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
