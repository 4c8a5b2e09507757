"""The router head and retrieval, on real embeddings."""

import json
from pathlib import Path

import numpy as np
import pytest

from cluster.catalog import agents, corpora
from cluster.domain.documents import CorpusVersion, Passage
from cluster.errors import InvalidInput
from cluster.passage_index import build
from serve_app.router import RouterHead
from tests.serve_app.conftest import CARDS, House, chat, embedder

TEXTS = {"linux": "list all files in a directory with a shell command", "property": "my heating is broken in the flat"}


def write_head(place: Path, threshold: float = 0.6, rows: int | None = None, **changes: object) -> Path:
    """A head whose rows are the embeddings of TEXTS, and a row of zeros for "no agent"."""
    place.mkdir(exist_ok=True)
    vectors = embedder().embed(list(TEXTS.values()))
    weights = np.vstack([10 * vectors, np.zeros((1, vectors.shape[1]))])[:rows].astype(np.float32)
    np.savez(place / "head.npz", weights=weights, bias=np.array([0.0, 0.0, 4.0], dtype=np.float32)[:rows])
    about = {"agents": list(TEXTS), "threshold": threshold, "temperature": 1.0, "embedder": embedder().name, **changes}
    (place / "head.json").write_text(json.dumps(about))
    return place


async def test_auto_goes_to_the_agent_that_fits_and_to_the_default_when_none_does(house: House, tmp_path: Path) -> None:
    bundle = house.artifacts.publish("adapter", write_head(tmp_path / "head"))
    house.release("router", "0.1.0", adapter_uri=bundle.uri, adapter_digest=bundle.digest)
    await house.gateway.live.look()
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
    assert head.route(vector, {"linux"}, "linux").agent == "linux"


@pytest.mark.parametrize(("changes", "named"), [({"rows": 1}, "1 rows for 2 agents"), ({"embedder": "other@1"}, "other@1")])
def test_a_head_that_does_not_fit_is_refused_by_name(tmp_path: Path, changes: dict, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        RouterHead(write_head(tmp_path / "head", **changes), "router@0.1.0", embedder().name)


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
    await house.gateway.live.look()
    publish(house, tmp_path / "two", 2, "The rent office opens at ten.", "Bins go out on Friday.")
    await house.gateway.live.look()
    question = "When does the rent office open?"
    async with house.client() as client:
        pinned = (await client.post("/v1/chat/completions", json=chat("facts", question))).json()
        newest = (await client.post("/v1/chat/completions", json=chat("facts@base", question))).json()
        without = (await client.post("/v1/chat/completions", json=chat("facts", question, treadle={"retrieve": False}))).json()
    assert [one["text"] for one in pinned["treadle"]["citations"]] == ["The rent office opens at nine."]
    assert [one["text"] for one in newest["treadle"]["citations"]] == ["The rent office opens at ten."]
    assert without["treadle"]["citations"] == []
    assert without["usage"]["prompt_tokens"] < pinned["usage"]["prompt_tokens"]
