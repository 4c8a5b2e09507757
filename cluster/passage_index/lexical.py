"""BM25 over passages: Tantivy's only home. Disk-based in building and in searching, so neither grows with the corpus in memory."""

import shutil
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cluster.domain.documents import Passage
from cluster.domain.readers import OPEN, key_of
from cluster.passage_index.layout import words

_HEAP_BYTES = 64 << 20
_OPEN = "open"
_LOCKS = (".tantivy-meta.lock", ".tantivy-writer.lock")


class LexicalWriter:
    """Adds to the lexical index in ``directory``, which may be a copy of an earlier one. One thread, so that equal input is
    written in equal order. ``marked``: with a field for who may read a passage."""

    def __init__(self, directory: Path, marked: bool = False) -> None:
        import tantivy

        self._directory, self._marked = directory, marked
        directory.mkdir(parents=True, exist_ok=True)
        if tantivy.Index.exists(str(directory)):
            index = tantivy.Index.open(str(directory))
        else:
            schema = tantivy.SchemaBuilder()
            schema.add_integer_field("row", stored=True, fast=True)
            schema.add_text_field("document", tokenizer_name="raw", index_option="basic")
            schema.add_text_field("text", tokenizer_name="whitespace", index_option="freq")
            if marked:
                schema.add_text_field("readers", tokenizer_name="raw", index_option="basic")
            index = tantivy.Index(schema.build(), path=str(directory))
        self._schema = index.schema
        self._writer = index.writer(heap_size=_HEAP_BYTES, num_threads=1)

    def remove(self, document_ids: Iterable[str]) -> None:
        """Every passage of these documents."""
        for one in document_ids:
            self._writer.delete_documents_by_term("document", one)

    def add(self, row: int, passage: Passage) -> None:
        import tantivy

        text = " ".join(words(f"{passage.heading} {passage.text}"))
        marks = {"readers": _term(key_of(passage.readers))} if self._marked else {}
        self._writer.add_document(tantivy.Document(row=row, document=passage.document_id, text=text, **marks))

    def finish(self) -> None:
        """Writes everything out and leaves no lock behind."""
        self._writer.commit()
        self._writer.wait_merging_threads()
        for name in _LOCKS:
            (self._directory / name).unlink(missing_ok=True)


class Lexical:
    """The opened lexical index, memory mapped; safe to search from several threads."""

    def __init__(self, directory: Path) -> None:
        import tantivy

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            index = tantivy.Index.open(str(directory))
        self._schema, self._searcher = index.schema, index.searcher()

    def __len__(self) -> int:
        return int(self._searcher.num_docs)

    def best(self, text: str, depth: int, readers: Sequence[str] | None = None) -> list[tuple[int, float]]:
        """Rows with a BM25 score above zero (k1 1.2, b 0.75; Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009),
        best first, ties by row. ``readers``: only of passages whose readers have one of these keys."""
        from tantivy import Occur, Query

        terms: list[Any] = [(Occur.Should, Query.term_query(self._schema, "text", word)) for word in dict.fromkeys(words(text))]
        if not terms:
            return []
        query = Query.boolean_query(terms)
        if readers is not None:
            seen = Query.term_set_query(self._schema, "readers", [_term(key) for key in readers])
            query = Query.boolean_query([(Occur.Must, query), (Occur.Must, Query.const_score_query(seen, 0.0))])
        found = self._searcher.search(query, depth, count=False).hits
        return sorted(
            ((self._searcher.doc(place)["row"][0], float(score)) for score, place in found), key=lambda hit: (-hit[1], hit[0])
        )


def _term(key: str) -> str:
    """A key as a term: Tantivy does not keep empty ones."""
    return _OPEN if key == OPEN else key


def copied(source: Path, target: Path) -> None:
    """A copy to write on; Tantivy never changes a finished segment, it adds files beside it."""
    shutil.copytree(source, target)
