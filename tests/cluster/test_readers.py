"""Who may read which passage: rules, and searches that leave out what somebody may not read, in every kind of index."""

from pathlib import Path

import numpy as np
import pytest

from cluster.domain.documents import Passage
from cluster.domain.readers import AccessRule, Reader, key_of, marked, parsed, readers_of
from cluster.domain.users import Access
from cluster.errors import InvalidInput
from cluster.passage_index import IndexBuilder, PassageIndex, build, dense

DIMENSION = 16
CURATORS = Access(roles=("curator",))
ADA = Access(users=("ada",))


BEN, ADA_HERSELF = Reader(user="ben"), Reader(user="ada")
CURATOR, ADMIN = Reader(user="cy", role="curator"), Reader(user="di", role="admin")


def passage(document: str, text: str, readers: Access | None = None) -> Passage:
    return Passage(
        id=f"{document}.0",
        document_id=document,
        corpus="c",
        number=0,
        text=text,
        start=0,
        end=len(text),
        source=f"{document}.md",
        readers=readers,
    )


def units(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def found(index: PassageIndex, text: str, vector: np.ndarray | None, person: Reader | None, k: int = 4) -> set[str]:
    return {hit.passage.document_id for hit in index.search(text, vector, k, person)}


def test_the_last_rule_that_fits_decides_and_a_rule_for_a_file_fits_its_records() -> None:
    rules = (
        AccessRule(sources="hr/*", roles=("curator",)),
        AccessRule(sources="hr/pay.csv", users=("eve", "ada")),
        AccessRule(sources="hr/open/*"),
    )
    assert readers_of(rules, "handbook.md") is None
    assert readers_of(rules, "hr/deep/leave.md") == CURATORS
    assert readers_of(rules, "hr/pay.csv#row 3") == Access(users=("ada", "eve"))
    assert readers_of(rules, "hr/open/holidays.md") is None
    assert readers_of(rules, "/srv/kb/hr/leave.md") == CURATORS, "files of one name are called by their longer ones"
    assert readers_of(rules, "/srv/kb/hr/open/holidays.md") == CURATORS, "and nothing is opened by that"
    assert marked("id", None) == "id"
    assert marked("id", CURATORS) != marked("id", ADA)


def test_rules_of_the_command_line() -> None:
    assert parsed("hr/a=b/*=curator, @ada") == {"sources": "hr/a=b/*", "roles": ("curator",), "users": ("ada",)}
    for wrong, named in {"hr/*": "no GLOB", "hr/*=": "no GLOB", "hr/*=boss": "'boss'", "hr/*=@A B": "'@A B'"}.items():
        with pytest.raises(InvalidInput, match=named):
            parsed(wrong)


def test_an_open_passage_is_written_as_before_and_an_index_of_them_says_nothing_of_readers(tmp_path: Path) -> None:
    assert "readers" not in passage("a", "x").model_dump_json()
    build([passage("a", "x")], units(1), tmp_path / "index")
    assert "marked" not in (tmp_path / "index" / "index.json").read_text()
    assert not list((tmp_path / "index").glob("readers*"))
    assert PassageIndex.open(tmp_path / "index").search("x", None, 1, BEN)


@pytest.fixture(params=["flat", "hnsw", "hnsw-sought", "ivfpq", "ivfpq-sought"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name, _, sought = str(request.param).partition("-")
    monkeypatch.setattr(dense, "HNSW_FROM", 10**6 if name == "flat" else 100)
    monkeypatch.setattr(dense, "IVF_FROM", 100 if name == "ivfpq" else 10**9)
    if sought:
        monkeypatch.setattr(dense, "_FEW", 5)
    return name


def many(count: int = 1500, open_ones: int = 12) -> list[Passage]:
    """Nearly all of them hidden from nearly everybody, and all saying the same words."""
    step = count // open_ones
    readers = [None if n % step == 0 else ADA if n % step == 1 else CURATORS for n in range(count)]
    return [passage(f"d{n:04}", "the rent is due" + " rent" * (readers[n] is not None), readers[n]) for n in range(count)]


def test_what_is_hidden_is_never_found_and_what_is_left_is_found_whole(tmp_path: Path, kind: str) -> None:
    passages, vectors = many(), units(1500)
    build(passages, vectors, tmp_path / "index")
    index = PassageIndex.open(tmp_path / "index")
    assert index.kind == kind
    open_to = {
        person: {one.document_id for one in passages if one.readers is None or one.readers.allows(person)}
        for person in (BEN, ADA_HERSELF, CURATOR)
    }
    assert [len(open_to[one]) for one in (BEN, ADA_HERSELF, CURATOR)] == [12, 24, 1488]
    hidden = vectors[700]
    for person, seen in open_to.items():
        for vector in (hidden, None):
            assert len(found(index, "rent", vector, person, 10)) == 10
            assert found(index, "rent", vector, person, 10) <= seen
        assert found(index, "rent", hidden, person, 50) == seen if len(seen) < 50 else True
        best = [row for row in np.argsort(-(vectors @ hidden)) if passages[row].document_id in seen][:3]
        assert [row for row, _ in index.best_dense(hidden, 3, index.readers and index.readers.view(person))] == best
    assert index.search("rent", hidden, 1, ADMIN) == index.search("rent", hidden, 1)
    assert index.search("", hidden, 1, CURATOR)[0].passage.document_id == "d0700"


def test_who_may_read_nothing_finds_nothing(tmp_path: Path, kind: str) -> None:
    build([passage(f"d{n}", "rent", CURATORS) for n in range(200)], units(200), tmp_path / "index")
    assert PassageIndex.open(tmp_path / "index").search("rent", units(1)[0], 4, BEN) == []


@pytest.mark.parametrize("was_marked", [False, True])
def test_an_index_that_is_continued_keeps_who_may_read_what(tmp_path: Path, kind: str, was_marked: bool) -> None:
    first = IndexBuilder(tmp_path / "1", DIMENSION, 400, marked=was_marked)
    vectors = units(401)
    for number in range(400):
        readers = CURATORS if was_marked and number % 2 else None
        first.add(
            f"d{number}", f"i{number}", [passage(f"d{number}", f"rent word{number}", readers)], vectors[number : number + 1]
        )
    base = PassageIndex.open(first.finish())
    second = IndexBuilder(tmp_path / "2", DIMENSION, 400, base=base, without=["d1", "d2"], marked=True)
    second.add("new", "i", [passage("new", "rent word400", ADA)], vectors[400:])
    index = PassageIndex.open(second.finish())
    assert len(index) == 399
    for number in (3, 5, 4):
        sees = not was_marked or number % 2 == 0
        assert (f"d{number}" in found(index, f"word{number}", vectors[number], BEN, 1)) == sees
        assert found(index, f"word{number}", vectors[number], CURATOR, 1) == {f"d{number}"}
    assert "new" not in found(index, "word400", vectors[400], CURATOR, 50)
    assert "new" in found(index, "word400", vectors[400], ADA_HERSELF, 1)
    opened_again = IndexBuilder(tmp_path / "3", DIMENSION, 400)
    with pytest.raises(InvalidInput, match="not for everybody"):
        opened_again.add("d", "i", [passage("d", "x", ADA)], vectors[:1])


def test_words_weigh_the_same_whoever_asks(tmp_path: Path) -> None:
    build([passage("a", "rent of oak"), passage("b", "rent"), passage("c", "oak", ADA)], units(3), tmp_path / "index")
    index = PassageIndex.open(tmp_path / "index")
    assert index.readers is not None
    seen = dict(index.best_lexical("oak rent", 5, index.readers.view(BEN)))
    everything = dict(index.best_lexical("oak rent", 5))
    assert seen == {row: everything[row] for row in (0, 1)}
    assert key_of(ADA) == key_of(Access(users=("ada",)))
