"""The router head and retrieval, on real embeddings."""

from pathlib import Path

import numpy as np
import pytest

from cluster import routing
from cluster.catalog import agents, corpora
from cluster.domain.documents import CorpusVersion, Passage
from cluster.errors import InvalidInput
from cluster.passage_index import build
from serve_app.router import RouterHead
from tests.serve_app.conftest import CARDS, House, chat, embedder

TEXTS = {"linux": "list all files in a directory with a shell command", "property": "my heating is broken in the flat"}


def write_head(place: Path, threshold: float = 0.5, **changes: object) -> Path:
    """A head whose landmarks are the embeddings of TEXTS; in scope is what is near to one of them."""
    place.mkdir(exist_ok=True)
    vectors = embedder().embed(list(TEXTS.values()))
    empty = routing.Lexicon(np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.float32))
    scope = np.array([0, 0, 0, 20, 0, 0, 0, -9], dtype=np.float32)  # a half where the nearest landmark's cosine is 0.45
    arrays = routing.HeadArrays(
        landmarks=vectors,
        near=np.eye(2, dtype=np.float32),
        words=np.zeros((routing.BUCKETS, 2), dtype=np.float32),
        bias=np.zeros(2, dtype=np.float32),
        lexicons=(empty, empty),
        scope=scope,
        owned=2,
    )
    arrays = arrays._replace(**{name: value for name, value in changes.items() if name in arrays._fields})
    named = str(changes.get("embedder", embedder().name))
    routing.save(place, routing.Head(arrays, tuple(TEXTS), threshold, 0.1, 2.0, named), {})
    return place


async def test_auto_goes_to_the_agent_that_fits_and_to_the_default_when_none_does(house: House, tmp_path: Path) -> None:
    bundle = house.artifacts.publish("adapter", write_head(tmp_path / "head"))
    house.release("router", "0.1.0", adapter_uri=bundle.uri, adapter_digest=bundle.digest)
    await house.gateway.following.look()
    async with house.client() as client:
        fits = (await client.post("/v1/chat/completions", json=chat("auto", "the heating in my flat is broken"))).json()[
            "treadle"
        ]
        none = (await client.post("/v1/chat/completions", json=chat("auto", "who won the chess championship"))).json()["treadle"]
        asked = (await client.post("/v1/chat/completions", json=chat("linux", "the heating is broken"))).json()["treadle"]
    assert (fits["agent"], fits["route"]["chosen_by"], fits["route"]["head"]) == ("property", "router", "router@0.1.0")
    assert fits["route"]["scores"]["property"] > 0.6
    assert (none["agent"], none["route"]["out_of_scope"]) == ("linux", True)
    assert asked["route"]["chosen_by"] == "caller"


async def test_an_agent_that_is_gone_is_never_picked(house: House, tmp_path: Path) -> None:
    with house.catalog.transaction() as work:
        agents.remove(work, "property")
    head = RouterHead(write_head(tmp_path / "head"), "router@0.1.0", embedder().name)
    vector = embedder().embed([TEXTS["property"]])[0]
    route = head.route(vector, TEXTS["property"], {"linux"}, "linux")
    assert (route.agent, route.out_of_scope, set(route.scores)) == ("linux", True, {"linux"})


def test_a_head_that_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    wrong = {
        "1 classes for 2 agents": {"bias": np.zeros(1, dtype=np.float32)},
        "other@1": {"embedder": "other@1"},
        r"words of shape \(9, 2\)": {"words": np.zeros((9, 2), dtype=np.float32)},
        "numbers that are none": {"near": np.full((2, 2), np.nan, dtype=np.float32)},
    }
    for number, (named, changes) in enumerate(wrong.items()):
        with pytest.raises(InvalidInput, match=f"router@0.1.0.*{named}.*train it again"):
            RouterHead(write_head(tmp_path / str(number), **changes), "router@0.1.0", embedder().name)


def test_a_head_that_cannot_be_read_is_refused_in_a_sentence(tmp_path: Path) -> None:
    def cut(name: str, size: int) -> Path:
        place = write_head(tmp_path / f"{name}-{size}")
        (place / name).write_bytes((place / name).read_bytes()[:size])
        return place

    old = write_head(tmp_path / "old")
    (old / "head.json").write_text('{"agents": ["a"], "threshold": 0.5, "temperature": 1.0}')
    none = write_head(tmp_path / "none")
    (none / "head.json").write_text("[]")
    places = {cut("head.npz", 900): "cannot be read", cut("head.npz", 0): "cannot be read", cut("head.json", 9): "cannot be read"}
    for place, named in {**places, none: "cannot be read", old: "is of format 1 and this version reads 2"}.items():
        with pytest.raises(InvalidInput, match=f"Router head router@0.1.0 {named}"):
            RouterHead(place, "router@0.1.0", embedder().name)


async def test_a_bad_head_is_a_problem_by_name_and_the_old_one_goes_on(house: House, tmp_path: Path) -> None:
    good = house.artifacts.publish("adapter", write_head(tmp_path / "good"))
    bad = house.artifacts.publish("adapter", write_head(tmp_path / "bad", embedder="other@1"))
    house.release("router", "0.1.0", adapter_uri=good.uri, adapter_digest=good.digest)
    await house.gateway.following.look()
    house.release("router", "0.1.1", adapter_uri=bad.uri, adapter_digest=bad.digest)
    await house.gateway.following.look()
    head = house.gateway.answering.head
    assert head is not None
    assert head.ref == "router@0.1.0"
    assert "other@1" in house.gateway.live.problems["router"]


def passages(*texts: str) -> list[Passage]:
    return [
        Passage(id=f"p{n}", document_id=f"d{n}", corpus="facts", number=n, text=text, start=0, end=len(text), source=f"{n}.md")
        for n, text in enumerate(texts)
    ]


def publish(house: House, place: Path, version: int, *texts: str) -> None:
    vectors = embedder().embed(texts)
    uri = house.artifacts.publish("index", build(passages(*texts), vectors, place, embedder().name)).uri
    with house.catalog.transaction() as work:
        corpora.add(
            work,
            CorpusVersion(
                corpus="facts",
                version=version,
                digest=str(version),
                index_uri=uri,
                documents=1,
                passages=len(texts),
                embedder="x",
            ),
        )


async def test_a_release_keeps_its_index_version_and_the_base_takes_the_newest(house: House, tmp_path: Path) -> None:
    card = CARDS[1].model_copy(update={"corpora": ("facts",), "top_k": 1, "name": "facts"})
    with house.catalog.transaction() as work:
        agents.save(work, card)
    publish(house, tmp_path / "one", 1, "The rent office opens at nine.", "Bins go out on Monday.")
    house.release("facts", "0.1.0", card=card, indexes={"facts": 1})
    await house.gateway.following.look()
    publish(house, tmp_path / "two", 2, "The rent office opens at ten.", "Bins go out on Friday.")
    await house.gateway.following.look()
    question = "When does the rent office open?"
    async with house.client() as client:
        pinned = (await client.post("/v1/chat/completions", json=chat("facts", question))).json()
        newest = (await client.post("/v1/chat/completions", json=chat("facts@base", question))).json()
        without = (await client.post("/v1/chat/completions", json=chat("facts", question, treadle={"retrieve": False}))).json()
    assert [one["text"] for one in pinned["treadle"]["citations"]] == ["The rent office opens at nine."]
    assert [one["text"] for one in newest["treadle"]["citations"]] == ["The rent office opens at ten."]
    assert without["treadle"]["citations"] == []
    assert without["usage"]["prompt_tokens"] < pinned["usage"]["prompt_tokens"]
