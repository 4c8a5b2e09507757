"""Small real indexes for the gateway's tests."""

from cluster.catalog import agents, corpora
from cluster.domain.agents import Agent
from cluster.domain.documents import CorpusVersion, Passage
from cluster.domain.users import Access
from cluster.passage_index import build
from tests.serve_app.conftest import House, embedder


def passage(number: int, text: str, readers: Access | None = None, page: int | None = None) -> Passage:
    start = 100 * number
    return Passage(
        id=f"doc{number}.0",
        document_id=f"doc{number}",
        corpus="facts",
        number=0,
        text=text,
        start=start,
        end=start + len(text),
        source=f"{number}.md",
        page=page,
        readers=readers,
    )


def publish(house: House, version: int, *passages: Passage, corpus: str = "facts") -> CorpusVersion:
    """One more version of a corpus."""
    place = house.scratch / f"{corpus}-{version}"
    vectors = embedder().embed([one.text for one in passages])
    uri = house.artifacts.publish("index", build(passages, vectors, place, embedder().name)).uri
    made = CorpusVersion(
        corpus=corpus,
        version=version,
        digest=f"{version}",
        index_uri=uri,
        documents=len(passages),
        passages=len(passages),
        embedder=embedder().name,
    )
    with house.catalog.transaction() as work:
        corpora.add(work, made)
    return made


async def agent(house: House, **changes: object) -> Agent:
    """An agent called facts that answers from the corpus of that name, live at once."""
    card = Agent.model_validate({"name": "facts", "prompt": "Answer.", "corpora": ("facts",), "top_k": 2, **changes})
    with house.catalog.transaction() as work:
        agents.save(work, card)
    await house.gateway.following.look()
    return card
