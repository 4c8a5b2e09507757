"""Forgetting: what holds a document or a user is found, rewritten where it can be, and marked where it cannot."""

from pathlib import Path

import pytest

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog, conversations, corpora, datasets, forgotten, questions, releases, signals
from cluster.domain.agents import Agent
from cluster.domain.conversations import Citation, Route, Turn
from cluster.domain.datasets import Dataset, DpoRow, Row, SftRow, rows_digest
from cluster.domain.documents import CorpusVersion, Passage, document_id
from cluster.domain.questions import Question, QuestionSet
from cluster.domain.releases import CHAMPION, Release
from cluster.domain.signals import Signal
from cluster.domain.validation import Validation
from cluster.errors import NotFound
from cluster.forgetting import Forgetting
from cluster.passage_index import IndexBuilder

RENT, BINS = document_id("kb", "rent.md"), document_id("kb", "bins.csv#row 2")


def passage(document: str, source: str, text: str) -> Passage:
    return Passage(
        id=f"{document}.0", document_id=document, corpus="kb", number=0, text=text, start=0, end=len(text), source=source
    )


def turn(name: str, user: str, document: str) -> Turn:
    cited = Citation(number=1, passage_id=f"{document}.0", document_id=document, source="…", text="The rent is 900 euros.")
    return Turn(
        id=name,
        conversation_id=f"conv_{user}",
        user=user,
        question="How high is the rent?",
        passages=(cited,),
        answer="900 euros [1]",
        agent="property",
        release="property@0.1.0",
        route=Route(agent="property"),
        validation=Validation(passed=True),
    )


def keep(catalog: Catalog, artifacts: Artifacts, name: str, rows: list[Row]) -> Dataset:
    bundle = artifacts.write_rows(rows)
    made = Dataset(digest=rows_digest(rows), name=name, kind=rows[0].kind, agent="property", rows=len(rows), uri=bundle.uri)
    with catalog.transaction() as work:
        datasets.add(work, made)
    return made


def sft(source: str, passages: tuple[str, ...] = ()) -> SftRow:
    return SftRow(question=f"Question of {source}?", answer="An answer.", passages=passages, source=source)


@pytest.fixture
def filled(catalog: Catalog, artifacts: Artifacts, agent: Agent, tmp_path: Path) -> dict[str, Dataset]:
    """A corpus with two documents; datasets, a release and turns that came from them; turns of two users."""
    builder = IndexBuilder(tmp_path / "index", 0, 2)
    builder.add(RENT, "1", [passage(RENT, "rent.md", "The rent is 900 euros.")])
    builder.add(BINS, "2", [passage(BINS, "bins.csv#row 2", "Bins go out on Tuesday.")])
    index = artifacts.publish("index", builder.finish())
    with catalog.transaction() as work:
        corpora.add(
            work,
            CorpusVersion(corpus="kb", version=1, digest="d", index_uri=index.uri, documents=2, passages=2, embedder=""),
        )
        conversations.record(work, [turn("turn_a", "ada", RENT), turn("turn_b", "bo", BINS)])
        signals.record(work, [Signal(id="sig_a", turn_id="turn_a", kind="thumb", value="up", user="ada")])
        asked = [Question(id=one, text="How high?", expected="900", source=f"turn:turn_{one}") for one in "ab"]
        questions.save_set(work, QuestionSet(name="property-regression", purpose="regression", questions=tuple(asked)))
    made = {
        "signals": keep(catalog, artifacts, "property-signals-sft", [sft("turn:turn_a"), sft("turn:turn_b")]),
        "synthesis": keep(
            catalog, artifacts, "synthesis", [sft("kb@1/rent.md#0"), sft("kb@1/bins.csv#row 2#0"), sft("other@1/rent.md#0")]
        ),
        "history": keep(
            catalog, artifacts, "history", [sft("chat.jsonl#line 1", ("The rent is 900 euros.",)), sft("chat.jsonl#line 2")]
        ),
        "pairs": keep(
            catalog,
            artifacts,
            "pairs",
            [DpoRow(question="How high?", chosen="900", rejected="800", source="turn:turn_a")],
        ),
    }
    release = Release(
        agent="property",
        version="0.1.0",
        card=agent.model_copy(update={"name": "property"}),
        adapter_uri="a",
        adapter_digest="a",
        base_model="b",
        base_digest="b",
        indexes={"kb": 1},
        datasets=(made["signals"].digest,),
    )
    with catalog.transaction() as work:
        releases.add(work, release)
        releases.move_alias(work, "property", CHAMPION, "0.1.0", "first")
    return made


def test_what_holds_a_document_is_found_everywhere(catalog: Catalog, artifacts: Artifacts, filled: dict[str, Dataset]) -> None:
    held = Forgetting(catalog, artifacts).document("rent.md")
    assert [(one.corpus, one.version, one.newest, one.documents) for one in held.corpora] == [("kb", 1, True, (RENT,))]
    assert {one.name: one.rows for one in held.datasets} == {"property-signals-sft": 1, "synthesis": 2, "history": 1, "pairs": 1}
    assert [(one.ref, one.alias) for one in held.releases] == [("property@0.1.0", CHAMPION)]
    assert "answers from kb version 1" in held.releases[0].because
    assert filled["signals"].ref in held.releases[0].because
    assert (held.turns, held.questions, held.done) == (1, ("property-regression#a",), False)
    with catalog.reading() as work:  # looking changes nothing
        assert forgotten.marks(work, "dataset") == {}
        assert forgotten.documents(work, "kb") == []


def test_a_file_stands_for_its_records_and_a_corpus_narrows(
    catalog: Catalog, artifacts: Artifacts, filled: dict[str, Dataset]
) -> None:
    forgetting = Forgetting(catalog, artifacts)
    assert forgetting.document("bins.csv").corpora == forgetting.document("bins.csv#row 2").corpora
    assert forgetting.document(RENT).corpora[0].documents == (RENT,)
    assert {one.name: one.rows for one in forgetting.document("rent.md", "kb").datasets}["synthesis"] == 1
    with pytest.raises(NotFound, match=r"Nothing holds a document 'nothing\.md'"):
        forgetting.document("nothing.md")


def test_forgetting_a_document_rewrites_what_can_be_and_marks_the_rest(
    catalog: Catalog, artifacts: Artifacts, filled: dict[str, Dataset]
) -> None:
    forgetting = Forgetting(catalog, artifacts)
    done = forgetting.forget(forgetting.document("rent.md"))
    assert done.done
    successors = {one.name: one.successor for one in done.datasets}
    assert successors["pairs"] is None  # no row would be left
    with catalog.reading() as work:
        assert {row.source for row in artifacts.read_rows(datasets.get(work, "property-signals-sft").uri)} == {"turn:turn_b"}
        assert [row.source for row in artifacts.read_rows(datasets.get(work, "history").uri)] == ["chat.jsonl#line 2"]
        assert datasets.get(work, "synthesis").ref == successors["synthesis"]
        assert set(forgotten.marks(work, "dataset")) == {one.digest for one in filled.values()}
        assert set(forgotten.marks(work, "release")) == {"property@0.1.0"}
        assert set(forgotten.marks(work, "corpus")) == {"kb"}
        assert forgotten.documents(work, "kb") == ["rent.md"]
        assert [one.id for one in questions.get_set(work, "property-regression").questions] == ["b"]
        assert conversations.turn(work, "turn_a").passages[0].text == "[forgotten]"
        assert conversations.turn(work, "turn_b").passages[0].text != "[forgotten]"
    again = forgetting.document("rent.md")  # the old version still holds it, the datasets do not
    assert again.datasets == ()
    assert forgetting.forget(again).done


def test_forgetting_a_user_takes_their_turns_signals_and_rows(
    catalog: Catalog, artifacts: Artifacts, filled: dict[str, Dataset]
) -> None:
    forgetting = Forgetting(catalog, artifacts)
    held = forgetting.user("ada")
    assert {one.name: one.rows for one in held.datasets} == {"property-signals-sft": 1, "pairs": 1}
    assert (held.turns, held.corpora, held.questions) == (1, (), ("property-regression#a",))
    forgetting.forget(held)
    with catalog.reading() as work:
        assert forgotten.turns_of_user(work, "ada") == []
        assert conversations.owner(work, "conv_ada") is None
        assert conversations.owner(work, "conv_bo") == "bo"
        assert signals.recent(work) == []
        assert [row.source for row in artifacts.read_rows(datasets.get(work, "property-signals-sft").uri)] == ["turn:turn_b"]
    with pytest.raises(NotFound, match="Nothing holds data of a user 'ada'"):
        forgetting.user("ada")
