"""Forgetting a document or a user: who holds it, and making sure that what is built next does not.

What can be rewritten at once is: datasets get a successor of the same name without the rows, regression questions and a user's turns
go, citations of the document in turns are blanked. What has to be built again is marked and left to the next turn of the wheel: the
corpus (the ingest leaves the document out and writes the index anew), the releases (their datasets have successors, so they are trained
again). Versions and releases that exist are never changed: they hold what they held until they are deleted.
"""

from collections.abc import Callable
from typing import Any

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog, Work, corpora, datasets, forgotten, questions, releases
from cluster.domain.conversations import Turn
from cluster.domain.datasets import Dataset, Row, rows_digest
from cluster.domain.documents import is_of
from cluster.domain.forgetting import Held, HeldCorpus, HeldDataset, HeldRelease
from cluster.errors import NotFound
from cluster.passage_index import PassageIndex, sources_of

Gone = Callable[[Row], bool]
_BLANK = "[forgotten]"


class Forgetting:
    """Looks first (``document``, ``user``), acts when told to (``forget``)."""

    def __init__(self, catalog: Catalog, artifacts: Artifacts) -> None:
        self._catalog, self._artifacts = catalog, artifacts

    def document(self, source: str, corpus: str | None = None) -> Held:
        """What holds the document named ``source`` (its path, URL or id as passages name it; a file stands for all its records).
        Raises NotFound when nothing knows it."""
        found = self._corpora(source, corpus)
        ids = {one for version in found for one in version.documents}
        with self._catalog.reading() as work:
            citing = forgotten.turns_citing(work, sorted(ids))
        held = self._held("document", source, self._rows_from(source, corpus, ids, citing), found, citing)
        if held.nothing:
            raise NotFound(f"Nothing holds a document '{source}'; treadle data search shows how passages name their source.")
        return held

    def user(self, name: str) -> Held:
        """What holds a user's conversations. Raises NotFound when there are none."""
        with self._catalog.reading() as work:
            mine = forgotten.turns_of_user(work, name)
        turns = {f"turn:{turn.id}" for turn in mine}
        held = self._held("user", name, lambda row: row.source.split("#")[0] in turns, (), mine)
        if held.nothing:
            raise NotFound(f"Nothing holds data of a user '{name}'; treadle keys list shows who there is.")
        return held

    def forget(self, held: Held, corpus: str | None = None) -> Held:
        """Rewrites, deletes and marks, in one transaction at the end; returns what was done. Doing it twice is doing it once."""
        gone = self._gone(held, corpus)
        remade = {one.digest: self._without(one, gone) for one in held.datasets}
        reason = f"holds {held.kind} '{held.ref}', which is to be forgotten"
        with self._catalog.transaction() as work:
            # "" stands for the files that conversations are read from.
            for one in {corpus or "", *(version.corpus for version in held.corpora)} if held.kind == "document" else {""}:
                forgotten.remember(work, held.kind, held.ref, one)
            for name in {version.corpus for version in held.corpora if version.newest}:
                forgotten.mark(work, "corpus", name, reason)
            for dataset in held.datasets:
                successor = remade[dataset.digest]
                if successor is not None:
                    datasets.add(work, successor)
                forgotten.mark(work, "dataset", dataset.digest, reason)
            for release in held.releases:
                forgotten.mark(work, "release", release.ref, reason)
            self._clear_turns(work, held)
            _drop_questions(work, set(held.questions))
        done = tuple(
            one.model_copy(update={"successor": made.ref if (made := remade[one.digest]) else None}) for one in held.datasets
        )
        return held.model_copy(update={"datasets": done, "done": True})

    def _gone(self, held: Held, corpus: str | None) -> Gone:
        with self._catalog.reading() as work:
            if held.kind == "user":
                turns = {f"turn:{turn.id}" for turn in forgotten.turns_of_user(work, held.ref)}
                return lambda row: row.source.split("#")[0] in turns
            ids = {one for version in held.corpora for one in version.documents}
            citing = forgotten.turns_citing(work, sorted(ids))
        return self._rows_from(held.ref, corpus, ids, citing)

    def _corpora(self, source: str, corpus: str | None) -> tuple[HeldCorpus, ...]:
        with self._catalog.reading() as work:
            names = [corpus] if corpus else corpora.names(work)
            versions = [version for name in names for version in corpora.versions(work, name)]
        newest = {one.corpus: one.version for one in versions}
        found = []
        for one in versions:
            try:
                named = sources_of(self._artifacts.fetch(one.index_uri, verify=False))
            except (NotFound, FileNotFoundError):  # deleted, or from before documents were listed
                continue
            ids = tuple(sorted(name for name, said in named.items() if name == source or is_of(said, source)))
            if ids:
                is_newest = newest[one.corpus] == one.version
                found.append(HeldCorpus(corpus=one.corpus, version=one.version, newest=is_newest, documents=ids))
        return tuple(found)

    def _rows_from(self, source: str, corpus: str | None, ids: set[str], citing: list[Turn]) -> Gone:
        """Whether a row came from the document: by its own source, from a turn that was answered from it, or with its passages."""
        turns = {f"turn:{turn.id}" for turn in citing}
        texts = self._texts(ids)

        def gone(row: Row) -> bool:
            place = row.source.partition("/")
            made_of = place[2] if "@" in place[0] and (corpus is None or place[0].startswith(f"{corpus}@")) else row.source
            passages = getattr(row, "passages", ())
            return is_of(made_of, source) or row.source.split("#")[0] in turns or any(text in texts for text in passages)

        return gone

    def _texts(self, ids: set[str]) -> set[str]:
        texts: set[str] = set()
        with self._catalog.reading() as work:
            versions = [version for name in corpora.names(work) for version in corpora.versions(work, name)]
        for one in versions:
            try:
                directory = self._artifacts.fetch(one.index_uri, verify=False)
                if ids.isdisjoint(sources_of(directory)):
                    continue
                index = PassageIndex.open(directory)
            except (NotFound, FileNotFoundError):
                continue
            for name in ids & index.documents.keys():
                _, first, rows = index.documents[name]
                texts |= {index.passage(row).text for row in range(first, first + rows)}
        return texts

    def _held(self, kind: Any, ref: str, gone: Gone, found: tuple[HeldCorpus, ...], turns: list[Turn]) -> Held:
        with self._catalog.reading() as work:
            known = datasets.everything(work)
            marked = forgotten.marks(work, "dataset")
            every = releases.everything(work)
            named_so = {f"{agent}@{version}": name for (agent, name), version in sorted(releases.all_aliases(work).items())}
            sets = questions.sets(work)
        held = []
        for dataset in known:
            rows = sum(map(gone, self._artifacts.read_rows(dataset.uri))) if dataset.digest not in marked else 0
            if rows:
                held.append(HeldDataset(ref=dataset.ref, digest=dataset.digest, name=dataset.name, rows=rows, of=dataset.rows))
        by_digest = {one.digest: one.ref for one in held}
        versions = {(one.corpus, one.version) for one in found}
        learnt = []
        for release in every:
            from_data = [by_digest[digest] for digest in release.datasets if digest in by_digest]
            from_index = [f"{name} version {version}" for name, version in release.indexes.items() if (name, version) in versions]
            if from_data or from_index:
                because = "; ".join([f"learnt from {ref}" for ref in from_data] + [f"answers from {one}" for one in from_index])
                learnt.append(HeldRelease(ref=release.ref, because=because, alias=named_so.get(release.ref)))
        asked_in = {f"turn:{turn.id}" for turn in turns}
        named = tuple(f"{one.name}#{asked.id}" for one in sets for asked in one.questions if asked.source in asked_in)
        return Held(
            kind=kind, ref=ref, corpora=found, datasets=tuple(held), releases=tuple(learnt), turns=len(turns), questions=named
        )

    def _without(self, held: HeldDataset, gone: Gone) -> Dataset | None:
        """The dataset's successor: the same rows but those that are gone, published and not yet recorded."""
        with self._catalog.reading() as work:
            before = datasets.get(work, held.digest)
        rows = [row for row in self._artifacts.read_rows(before.uri) if not gone(row)]
        if not rows:
            return None
        bundle = self._artifacts.write_rows(rows)
        return Dataset(
            digest=rows_digest(rows),
            name=before.name,
            kind=before.kind,
            agent=before.agent,
            rows=len(rows),
            uri=bundle.uri,
            sources=before.sources,
        )

    def _clear_turns(self, work: Work, held: Held) -> None:
        if held.kind == "user":
            forgotten.delete_user(work, held.ref)
            return
        ids = {one for version in held.corpora for one in version.documents}
        for turn in forgotten.turns_citing(work, sorted(ids)):
            passages = tuple(one.model_copy(update={"text": _BLANK}) if one.document_id in ids else one for one in turn.passages)
            forgotten.rewrite_turn(work, turn.model_copy(update={"passages": passages}))


def _drop_questions(work: Work, named: set[str]) -> None:
    for one in questions.sets(work):
        left = tuple(asked for asked in one.questions if f"{one.name}#{asked.id}" not in named)
        if not left:
            questions.delete_set(work, one.name)
        elif len(left) < len(one.questions):
            questions.save_set(work, one.model_copy(update={"questions": left}))
