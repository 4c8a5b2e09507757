"""Building, continuing, opening and searching an index: real FAISS, real BM25."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cluster.domain.documents import Passage
from cluster.errors import IntegrityError, InvalidInput, NotFound
from cluster.passage_index import IndexBuilder, PassageIndex, build, dense, words
from cluster.settings import ROOT

DIMENSION = 16


def passage(number: int, text: str, heading: str = "", document: str = "d") -> Passage:
    return Passage(
        id=f"{document}.{number}",
        document_id=document,
        corpus="c",
        number=number,
        text=text,
        start=0,
        end=len(text),
        heading=heading,
        source="s.md",
    )


def unit(*places: int) -> np.ndarray:
    vector = np.zeros(DIMENSION, dtype=np.float32)
    vector[list(places)] = 1
    return vector / np.linalg.norm(vector)


def random_units(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def small(tmp_path: Path) -> PassageIndex:
    passages = [
        passage(0, "The rent of Oak House is 900."),
        passage(1, "Bins are emptied on Tuesday."),
        passage(2, "The lift code is XJ-4471.", heading="Lift"),
    ]
    build(passages, np.stack([unit(0), unit(1), unit(2)]), tmp_path / "index", embedder="e@1")
    return PassageIndex.open(tmp_path / "index")


def test_a_passage_comes_back_as_it_went_in(small: PassageIndex) -> None:
    assert len(small) == 3
    assert small.embedder == "e@1"
    assert small.passage(2) == passage(2, "The lift code is XJ-4471.", heading="Lift")
    assert [one.number for one in small.passages()] == [0, 1, 2]


def test_dense_and_lexical_ranks_are_fused(small: PassageIndex) -> None:
    hits = small.search("code XJ-4471", unit(1), k=3)
    by_number = {hit.passage.number: hit for hit in hits}
    assert (by_number[1].dense_rank, by_number[1].lexical_rank) == (1, None)
    assert by_number[2].lexical_rank == 1
    assert by_number[1].similarity == pytest.approx(1.0)
    assert by_number[1].score == pytest.approx(0.5)  # the best of one search, nothing in the other
    assert by_number[2].score == pytest.approx(0.5)
    assert by_number[0].score == 0
    both = small.search("code XJ-4471", (unit(1) + 2 * unit(2)) / np.sqrt(np.float32(5)), k=3)
    assert (both[0].passage.number, both[0].score) == (2, pytest.approx(1.0))
    assert (both[1].passage.number, both[1].score) == (1, pytest.approx(0.25))
    assert [hit.score for hit in both] == sorted((hit.score for hit in both), reverse=True)


def test_words_of_the_heading_are_found(small: PassageIndex) -> None:
    assert next(hit for hit in small.search("lift", unit(0), k=3) if hit.lexical_rank).passage.number == 2


@pytest.mark.parametrize("text", ["", "?!", "unheard zzz"])
def test_a_text_without_known_words_is_searched_by_vector_alone(small: PassageIndex, text: str) -> None:
    hits = small.search(text, unit(1), k=2)
    assert hits[0].passage.number == 1
    assert all(hit.lexical_rank is None for hit in hits)


def test_more_is_asked_for_than_there_is(small: PassageIndex) -> None:
    assert len(small.search("rent", unit(0), k=50)) == 3


def test_each_of_many_is_found_first_by_its_own_vector_and_words(tmp_path: Path) -> None:
    passages = [passage(number, f"entry {number} about topic{number % 7}") for number in range(500)]
    vectors = random_units(500)
    build(passages, vectors, tmp_path / "index")
    opened = PassageIndex.open(tmp_path / "index")
    assert opened.kind == "flat"
    assert all(opened.search(f"entry {row}", vectors[row], k=1)[0].passage.number == row for row in range(0, 500, 17))


def test_a_large_index_is_a_graph_and_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "HNSW_FROM", 400)
    vectors = random_units(1000)
    build([passage(number, f"n{number}") for number in range(1000)], vectors, tmp_path / "index")
    opened = PassageIndex.open(tmp_path / "index")
    assert opened.kind == "hnsw"
    found = sum(opened.search("", vectors[row], k=1)[0].passage.number == row for row in range(0, 1000, 10))
    assert found >= 98


def test_passages_without_words_do_not_stop_a_build(tmp_path: Path) -> None:
    build([passage(0, "…"), passage(1, "—")], random_units(2), tmp_path / "index")
    assert len(PassageIndex.open(tmp_path / "index").search("…", unit(0), k=2)) == 2


def test_words_fold_case_and_keep_digits() -> None:
    assert words("Straße No. 12: GET_IT") == ["strasse", "no", "12", "get_it"]


def test_nothing_to_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no passages"):
        build([], random_units(0), tmp_path / "index")
    with pytest.raises(InvalidInput, match="1 passages need as many vectors"):
        build([passage(0, "a")], random_units(2), tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_an_index_is_never_written_over(small: PassageIndex) -> None:
    with pytest.raises(InvalidInput, match="already"):
        build([passage(0, "a")], random_units(1), small.directory)


def test_an_unfinished_index_does_not_exist(small: PassageIndex) -> None:
    (small.directory / "index.json").unlink()
    with pytest.raises(NotFound, match="no finished index"):
        PassageIndex.open(small.directory)


def test_parts_that_disagree_are_an_integrity_error(small: PassageIndex) -> None:
    manifest = json.loads((small.directory / "index.json").read_text())
    (small.directory / "index.json").write_text(json.dumps({**manifest, "passages": 4}))
    with pytest.raises(IntegrityError, match="says 4"):
        PassageIndex.open(small.directory)


def test_a_vector_of_another_embedder_is_refused(small: PassageIndex) -> None:
    with pytest.raises(InvalidInput, match="vectors of 16 numbers"):
        small.search("rent", np.zeros(384, dtype=np.float32))


def documents_of(index: PassageIndex) -> set[str]:
    return {one.document_id for one in index.passages()}


def filled(builder: IndexBuilder, names: list[str], vectors: np.ndarray) -> None:
    """Two passages a document: the second one's vector is the first one's, turned round."""
    for name, vector in zip(names, vectors, strict=True):
        pair = [passage(0, f"word{name} first", document=name), passage(1, f"word{name} second", document=name)]
        builder.add(name, f"identity of {name}", pair, np.stack([vector, -vector]))


@pytest.fixture(params=["flat", "hnsw", "ivfpq"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(dense, "HNSW_FROM", 10**6 if request.param == "flat" else 100)
    monkeypatch.setattr(dense, "IVF_FROM", 100 if request.param == "ivfpq" else 10**9)
    return str(request.param)


@pytest.mark.parametrize("compact", [False, True])
def test_an_index_that_follows_another_finds_what_came_and_not_what_went(tmp_path: Path, kind: str, compact: bool) -> None:
    names = [f"doc{number:03}" for number in range(400)]
    vectors = random_units(440)
    first = IndexBuilder(tmp_path / "1", DIMENSION, 800)
    filled(first, names, vectors[:400])
    base = PassageIndex.open(first.finish())
    assert base.kind == kind
    gone, new = names[:40], [f"new{number:02}" for number in range(40)]
    second = IndexBuilder(tmp_path / "2", DIMENSION, 800, base=base, without=gone, compact=compact)
    filled(second, new, vectors[400:])
    index = PassageIndex.open(second.finish())
    assert (index.kind, len(index)) == (kind, 800)
    assert len(index.alive) == (800 if compact else 880)
    assert documents_of(index) == {*names[40:], *new}
    assert index.documents["new07"][0] == "identity of new07"
    for name, vector in [*zip(names[40::37], vectors[40:400:37], strict=True), *zip(new[::7], vectors[400::7], strict=True)]:
        assert index.search("", vector, k=1)[0].passage.document_id == name
        assert index.best_lexical(f"word{name}", 5)[0][1] > 0
    for name, vector in zip(gone[::5], vectors[:40:5], strict=True):
        assert index.best_lexical(f"word{name}", 5) == []
        assert name not in {hit.passage.document_id for hit in index.search(f"word{name}", vector, k=10)}
    blank = (index.directory / "passages.jsonl").read_text()
    assert "doc000" not in blank
    assert "doc399" in blank
    assert documents_of(PassageIndex.open(base.directory)) == set(names)  # the version before stays as it was


def test_with_many_dead_rows_an_index_is_written_anew(tmp_path: Path) -> None:
    names = [f"doc{number:03}" for number in range(100)]
    first = IndexBuilder(tmp_path / "1", DIMENSION, 200)
    filled(first, names, random_units(100))
    base = PassageIndex.open(first.finish())
    second = PassageIndex.open(IndexBuilder(tmp_path / "2", DIMENSION, 200, base=base, without=names[:60]).finish())
    assert (len(second), len(second.alive)) == (80, 80)
    assert np.allclose(second.vectors(np.arange(80)), base.vectors(np.arange(120, 200)))


def test_an_index_that_grows_past_a_bound_changes_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "HNSW_FROM", 150)
    vectors = random_units(200)
    first = IndexBuilder(tmp_path / "1", DIMENSION, 100)
    filled(first, [f"a{n}" for n in range(50)], vectors[:50])
    base = PassageIndex.open(first.finish())
    second = IndexBuilder(tmp_path / "2", DIMENSION, 400, base=base)
    filled(second, [f"b{n}" for n in range(150)], vectors[50:])
    index = PassageIndex.open(second.finish())
    assert (base.kind, index.kind, len(index)) == ("flat", "hnsw", 400)
    assert index.search("", vectors[3], k=1)[0].passage.document_id == "a3"


def test_an_index_without_vectors_is_searched_by_words(tmp_path: Path) -> None:
    builder = IndexBuilder(tmp_path / "index", 0, 2)
    builder.add("a", "", [passage(0, "The rent is 900.", document="a")])
    builder.add("b", "", [passage(0, "Bins on Tuesday.", document="b")])
    index = PassageIndex.open(builder.finish(note="by hand"))
    assert (index.kind, index.dimension, index.manifest["note"]) == ("lexical", 0, "by hand")
    (hit,) = index.search("rent", None, k=3)
    assert (hit.passage.document_id, hit.score, hit.similarity) == ("a", 1.0, None)
    assert index.search("rent", unit(0), k=3) == [hit]
    with pytest.raises(InvalidInput):
        index.best_dense(unit(0), 3)


def test_a_builder_refuses_vectors_that_do_not_fit(tmp_path: Path) -> None:
    builder = IndexBuilder(tmp_path / "index", DIMENSION, 2)
    with pytest.raises(InvalidInput, match=r"1 passages need vectors of shape \(1, 16\), not \(2, 16\)"):
        builder.add("a", "", [passage(0, "a")], random_units(2))
    with pytest.raises(InvalidInput, match="no passages"):
        builder.finish()
    assert not (tmp_path / "index").exists()


def test_many_processes_read_one_index_at_a_time(tmp_path: Path) -> None:
    vectors = random_units(300)
    build([passage(n, f"entry{n}", document=f"d{n}") for n in range(300)], vectors, tmp_path / "index")
    before = sorted(path.name for path in (tmp_path / "index" / "lexical").iterdir())
    code = (
        "import sys, pathlib; from cluster.passage_index import PassageIndex;"
        "index = PassageIndex.open(pathlib.Path(sys.argv[1])); print('ready', flush=True); sys.stdin.readline();"
        "print(index.search('entry77', None, k=1)[0].passage.document_id)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "index")]
    readers = [subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
    assert [reader.communicate("go\n")[0].strip() for reader in readers] == ["d77"] * 3
    assert before == sorted(path.name for path in (tmp_path / "index" / "lexical").iterdir() if "lock" not in path.name)
