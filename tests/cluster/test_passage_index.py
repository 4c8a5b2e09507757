"""Building, opening and searching an index: real FAISS, real BM25."""

import json
from pathlib import Path

import numpy as np
import pytest

from cluster import passage_index
from cluster.domain.documents import Passage
from cluster.errors import IntegrityError, InvalidInput, NotFound
from cluster.passage_index import PassageIndex, build, words

DIMENSION = 16


def passage(number: int, text: str, heading: str = "") -> Passage:
    return Passage(
        id=f"d.{number}",
        document_id="d",
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
    for hit in hits:
        expected = sum(1 / (60 + rank) for rank in (hit.dense_rank, hit.lexical_rank) if rank)
        assert hit.score == pytest.approx(expected)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[0].passage.number == 2  # found by both beats found first by one


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
    monkeypatch.setattr(passage_index, "HNSW_FROM", 400)
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
