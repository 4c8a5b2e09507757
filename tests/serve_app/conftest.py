"""A gateway over the scripted engine: real catalog, guard, tokenizer and embedder, no Ray and no vLLM."""

from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog, agents, releases, users
from cluster.domain.agents import Agent, GenerationSettings
from cluster.domain.releases import CHAMPION, Release
from cluster.domain.users import Role, new_key
from cluster.domain.validation import PatternRule
from cluster.embedding import Embedder
from cluster.settings import Settings
from serve_app.back_pressure import Bounded, Room
from serve_app.bases import Base, Bases, open_tokenizer
from serve_app.engine import GenerationRequest, ScriptedEngine
from serve_app.gateway import Gateway, build_app

CARDS = (
    Agent(name="linux", prompt="Write one shell command.", default=True, generation=GenerationSettings(max_tokens=32)),
    Agent(
        name="property",
        prompt="Answer tenants.",
        rules=(PatternRule(kind="must_match", name="timeline", patterns=(r"\bwithin \d+ (hours|days)\b",)),),
    ),
    Agent(name="python", prompt="Write Python."),
)


@cache
def embedder() -> Embedder:
    return Embedder(threads=1)


@cache
def tokenizer(location: str) -> Any:
    return open_tokenizer(location)


def only(settings: Settings, engine: ScriptedEngine) -> Bases:
    """The first base alone, on this engine."""
    role, room = settings.models.base, Room(settings.router.most_at_once)
    return Bases([Base(role, Bounded(engine, room), tokenizer(role.location), settings.engine.max_model_len)], room)


def gateway(settings: Settings, engine: ScriptedEngine) -> Gateway:
    """One replica on this engine."""
    return Gateway(settings, only(settings, engine), embedder())


def say_who(request: GenerationRequest) -> str:
    """The script: says which adapter speaks and how long its prompt was, so that both can be asserted."""
    return f"{request.adapter or 'base'} heard {len(request.prompt_ids)} tokens"


class House:
    """One service with its catalog, and keys for people of each role."""

    def __init__(
        self, settings: Settings, catalog: Catalog, artifacts: Artifacts, scratch: Path, bases: Bases | None = None
    ) -> None:
        self.settings, self.catalog, self.artifacts, self.scratch = settings, catalog, artifacts, scratch
        self.engine = ScriptedEngine(say_who)
        self.gateway = Gateway(settings, bases or only(settings, self.engine), embedder())
        self.app = build_app(self.gateway)

    def key(self, user: str, role: Role = "user") -> str:
        text, record = new_key(user, role)
        with self.catalog.transaction() as work:
            users.save_key(work, record)
        return text

    def client(self, user: str = "ada", role: Role = "user", key: str | None = None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {key or self.key(user, role)}"}
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://treadle", headers=headers)

    def speaks(self, engine: ScriptedEngine) -> ScriptedEngine:
        """Another engine answers from now on."""
        self.engine = engine
        bases = self.gateway.bases
        bases.first.engine = Bounded(engine, bases.room)
        return engine

    def card(self, name: str) -> Agent:
        """One more agent."""
        made = Agent(name=name, prompt="Answer.")
        with self.catalog.transaction() as work:
            agents.save(work, made)
        return made

    def openai(self, user: str = "ada") -> openai.AsyncOpenAI:
        """OpenAI's own client, of which every request goes to the application."""
        return openai.AsyncOpenAI(
            base_url="http://treadle/v1",
            api_key=self.key(user),
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(transport=httpx2.ASGITransport(self.app)),
        )

    def release(self, agent: str, version: str, champion: bool = True, **changes: Any) -> Release:
        """Record a release (its adapter is a file that nobody reads here) and make it the champion."""
        place = self.scratch / f"{agent}-{version}"
        place.mkdir()
        (place / "adapter_config.json").write_text(f'{{"r": 8, "of": "{agent}@{version}"}}')
        bundle = self.artifacts.publish("adapter", place)
        card = next((card for card in CARDS if card.name == agent), Agent(name=agent))
        whole = {
            "agent": agent,
            "version": version,
            "card": card,
            "adapter_uri": bundle.uri,
            "adapter_digest": bundle.digest,
            "base_model": "starter",
            "base_digest": "0" * 64,
        }
        made = Release.model_validate({**whole, **changes})
        with self.catalog.transaction() as work:
            releases.add(work, made)
            if champion:
                releases.move_alias(work, agent, CHAMPION, version, "test")
        return made


def sentence(answer: httpx.Response) -> str:
    """The error of an answer, in OpenAI's shape or in Ollama's."""
    error = answer.json()["error"]
    return str(error if answer.request.url.path.startswith("/api/") else error["message"])


def chat(model: str, question: str = "list the files", **more: Any) -> dict[str, Any]:
    """A request body."""
    return {"model": model, "messages": [{"role": "user", "content": question}], **more}


@pytest.fixture
async def house(settings: Settings, catalog: Catalog, artifacts: Artifacts, tmp_path: Path) -> AsyncIterator[House]:
    with catalog.transaction() as work:
        for card in CARDS:
            agents.save(work, card)
    made = House(settings, catalog, artifacts, tmp_path)
    await made.gateway.following.look()
    made.gateway.ready = True
    yield made
    await made.gateway.close()


@pytest.fixture
async def talk(house: House, tmp_path: Path) -> House:
    """A house whose router's head is live, and whose agents have names for people."""
    from tests.serve_app.test_routing import write_head  # it imports from here

    bundle = house.artifacts.publish("adapter", write_head(tmp_path / "head"))
    house.release("router", "0.1.0", adapter_uri=bundle.uri, adapter_digest=bundle.digest)
    with house.catalog.transaction() as work:
        for card, title in zip(CARDS, ("Linux helper", "Property support", "Python helper"), strict=True):
            agents.save(work, card.model_copy(update={"display_name": title, "description": f"For {card.name}."}))
    await house.gateway.following.look()
    return house
