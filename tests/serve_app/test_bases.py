"""Two base models in one service: every release answers on its own, in that one's tokens, and all else goes on across them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.artifacts import Artifacts
from cluster.base_model import base_digest
from cluster.catalog import Catalog, agents, experiments
from cluster.domain.agents import Agent
from cluster.domain.conversations import Message
from cluster.domain.prompts import prompt_ids, render
from cluster.domain.releases import Release
from cluster.errors import Unavailable
from cluster.model_roles import FurtherBase
from cluster.settings import Settings
from serve_app.bases import open_bases
from serve_app.engine import EngineState, GenerationRequest, ScriptedEngine
from tests.serve_app.conftest import CARDS, House, chat, say_who
from tests.serve_app.other_base import other_base
from tests.serve_app.passages import agent, passage, publish
from tests.serve_app.test_openai_client import TOOLS_TEMPLATE, WEATHER

PATH = "/v1/chat/completions"


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return other_base("models/starter", tmp_path_factory.mktemp("bases") / "other")


class Two(House):
    """A house with the starter and another base, 'linux' on the first and 'python' on the second."""

    def __init__(self, settings: Settings, catalog: Catalog, artifacts: Artifacts, scratch: Path) -> None:
        self.engines = {role.name: ScriptedEngine(say_who) for role in settings.bases}
        super().__init__(settings, catalog, artifacts, scratch, open_bases(settings, self.engines))
        self.engine = self.engines["starter"]

    def on(self, base: str, agent: str, version: str = "0.1.0", **changes: Any) -> Release:
        """A release that was trained on this base."""
        role = next(one for one in self.settings.bases if one.name == base)
        return self.release(agent, version, base_model=base, base_digest=base_digest(role), **changes)

    def says(self, base: str, *texts: str) -> ScriptedEngine:
        """What the engine of a base answers, one text after another, the last one again and again."""
        left = list(texts)
        self.engines[base]._script = lambda _: left.pop(0) if len(left) > 1 else left[0]
        return self.engines[base]

    def read(self, base: str, request: GenerationRequest | None = None) -> str:
        """A prompt as this base reads it: by default its engine's last."""
        found = self.gateway.bases.named(base)
        assert found is not None
        text: str = found.tokenizer.decode((request or self.engines[base].asked[-1]).prompt_ids)
        return text

    def rendered(self, base: str, messages: list[Message]) -> list[int]:
        found = self.gateway.bases.named(base)
        assert found is not None
        return prompt_ids(found.tokenizer, messages)


@pytest.fixture
async def two(settings: Settings, catalog: Catalog, artifacts: Artifacts, tmp_path: Path, other: Path) -> AsyncIterator[Two]:
    with catalog.transaction() as work:
        for card in CARDS:
            agents.save(work, card)
    further = FurtherBase.model_validate({"path": str(other), "name": "other", "engine": {"max_model_len": 256}})
    models = settings.models.model_copy(update={"bases": (further,)})
    made = Two(settings.model_copy(update={"models": models}), catalog, artifacts, tmp_path)
    made.on("starter", "linux")
    made.on("other", "python")
    await made.gateway.following.look()
    assert not made.gateway.live.problems
    yield made
    await made.gateway.close()


async def said(two: Two, model: str, question: str = "list the files", status: int = 200, **more: Any) -> dict[str, Any]:
    async with two.client() as client:
        answer = await client.post(PATH, json=chat(model, question, **more))
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def text(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_release_answers_on_the_base_it_was_trained_on(two: Two, stream: bool) -> None:
    assert {name: engine.loaded for name, engine in two.engines.items()} == {
        "starter": ["linux@0.1.0"],
        "other": ["python@0.1.0"],
    }, "each is warmed where it answers"
    first, second = two.engines["starter"], two.engines["other"]
    async with two.client() as client:
        for model, engine, base, adapter in (
            ("linux", first, "starter", "linux@0.1.0"),
            ("python", second, "other", "python@0.1.0"),
            ("python@0.1.0", second, "other", "python@0.1.0"),
            ("python@base", first, "starter", None),
            ("starter", first, "starter", None),
            ("other", second, "other", None),
        ):
            before = len(engine.asked)
            answer = await client.post(PATH, json=chat(model, "sort my list", stream=stream))
            assert answer.status_code == 200, answer.text
            assert [one.adapter for one in engine.asked[before:]] == [adapter], model
            prompt = next((card.prompt for card in CARDS if card.name == model.partition("@")[0]), "")
            assert engine.asked[-1].prompt_ids == two.rendered(base, render(prompt, "sort my list")), model
    assert "user said: sort my list" in two.read("other")
    assert "user said" not in two.read("starter")
    assert "sort my list" not in two.read("starter", second.asked[-1]), "the vocabularies differ, or this shows nothing"


async def test_both_are_models_by_their_names_and_tokens_are_those_of_who_answers(two: Two) -> None:
    starter, other = two.gateway.bases
    async with two.client() as client:
        listed = [one["id"] for one in (await client.get("/v1/models")).json()["data"]]
        assert listed[-2:] == ["starter", "other"]
        for model, base, longest in (("linux", starter, 1024), ("python@0.1.0", other, 256), ("other", other, 256)):
            body = {"model": model, "prompt": "sort a list"}
            found = (await client.post("/tokenize", json=body)).json()
            assert (found["tokens"], found["max_model_len"]) == (base.tokenizer.encode("sort a list"), longest)
            back = await client.post("/detokenize", json={"model": model, "tokens": found["tokens"]})
            assert back.json() == {"prompt": "sort a list"}
            raw = await client.post("/v1/completions", json=body)
            assert raw.status_code == 200, raw.text
            assert two.engines[base.name].asked[-1].prompt_ids == base.tokenizer.encode("sort a list")
        tags = {one["name"]: one["details"]["parent_model"] for one in (await client.get("/api/tags")).json()["models"]}
        assert {name: tags[name] for name in ("linux", "python", "python@0.1.0", "python@base", "other")} == {
            "linux": "starter",
            "python": "other",
            "python@0.1.0": "other",
            "python@base": "starter",
            "other": "other",
        }
        shown = (await client.post("/api/show", json={"model": "python"})).json()
    assert shown["template"] == other.tokenizer.chat_template
    assert shown["model_info"]["general.basename"] == "other"
    assert 256 in shown["model_info"].values()


async def test_each_bounds_its_prompts_by_its_own_length(two: Two) -> None:
    question = "sort " * 300
    refused = await said(two, "python", question, status=400)
    assert "the model takes 255" in refused["error"]["message"]
    await said(two, "linux", question)


async def test_a_release_of_a_base_that_is_not_served_goes_to_the_first_whose_adapter_check_refuses_it(two: Two) -> None:
    two.release("python", "0.2.0", champion=False, base_digest="f" * 64)
    await said(two, "python@0.2.0")
    assert two.engines["starter"].asked[-1].adapter == "python@0.2.0"


async def test_handing_over_renders_the_question_for_the_others_base(two: Two) -> None:
    card = CARDS[0].model_copy(update={"hands_over_to": ("python",)})
    two.on("starter", "linux", "0.2.0", card=card)
    await two.gateway.following.look()
    two.says("starter", "[[handover:python]]")
    handed = await said(two, "linux", "sort my list")
    assert (handed["treadle"]["agent"], handed["treadle"]["release"]) == ("python", "python@0.1.0")
    assert two.engines["other"].asked[-1].prompt_ids == two.rendered("other", render("Write Python.", "sort my list"))


async def test_an_answer_is_corrected_on_its_own_base(two: Two) -> None:
    card = CARDS[1].model_copy(update={"correct": True})
    two.on("other", "property", card=card)
    await two.gateway.following.look()
    engine = two.says("other", "It is cold.", "Somebody comes within 2 days.")
    found = await said(two, "property", "No heat")
    assert (text(found), found["treadle"]["correction"]["kept"]) == ("Somebody comes within 2 days.", "second")
    assert [one.adapter for one in engine.asked[-2:]] == ["property@0.1.0"] * 2
    assert "assistant said: It is cold." in two.read("other")
    assert two.engines["starter"].asked == []


async def test_the_finalist_fuses_on_its_base_what_was_drafted_on_another(two: Two) -> None:
    publish(two, 1, passage(1, "The rent of house 1 is 901 euros a month."))
    card = await agent(two, fuse=True)
    two.on("other", "facts", card=card, indexes={"facts": 1})
    await two.gateway.following.look()
    two.says("other", "It is 901.")
    two.says("starter", "The rent is 901 euros [1].")
    found = await said(two, "facts", "What is the rent of house 1?")
    assert (text(found), found["treadle"]["draft"]) == ("The rent is 901 euros [1].", "It is 901.")
    assert "It is 901." in two.read("starter")
    assert two.engines["other"].asked[-1].adapter == "facts@0.1.0"


@pytest.mark.parametrize("kind", ["canary", "shadow"])
async def test_a_challenger_on_another_base_is_tried_there(two: Two, kind: str) -> None:
    two.on("other", "linux", "0.2.0", champion=False)
    async with two.client("eve", "curator") as curator:
        body = {"challenger": "linux@0.2.0", "kind": kind, "share": 0.5 if kind == "canary" else 1.0}
        begun = await curator.post("/v1/experiments", json=body)
        assert begun.status_code == 201, begun.text
    await two.gateway.following.look()
    told = {(await said(two, "linux"))["treadle"]["release"] for _ in range(20)}
    assert told == ({"linux@0.1.0", "linux@0.2.0"} if kind == "canary" else {"linux@0.1.0"})
    async with asyncio.timeout(20):
        while not any(one.adapter == "linux@0.2.0" for one in two.engines["other"].asked):
            await asyncio.sleep(0.02)
    assert two.read("other").startswith("<|system|>system said: Write one shell command.")
    assert not any(one.adapter == "linux@0.2.0" for one in two.engines["starter"].asked)
    with two.catalog.reading() as work:
        assert not any(one.error for one in experiments.trials_of(work, begun.json()["id"]))


async def test_answers_of_all_bases_share_the_room(two: Two) -> None:
    two.gateway.bases.room.most = 1
    two.engines["other"]._pause = 0.2
    first = asyncio.create_task(said(two, "python"))
    while two.engines["other"].running == 0:
        await asyncio.sleep(0.01)
    refused = await said(two, "linux", status=429)
    assert "router.most_at_once" in refused["error"]["message"]
    await first
    await said(two, "linux")


async def test_tools_and_choices_are_those_of_the_base(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    other = two.gateway.bases.named("other")
    assert other is not None
    monkeypatch.setattr(other.tokenizer, "chat_template", TOOLS_TEMPLATE)
    two.says("other", '{"name": "weather", "arguments": {"city": "Bern"}}')
    refused = await said(two, "linux", tools=[WEATHER], status=400)
    assert "knows no tools" in refused["error"]["message"]
    found = await said(two, "python", tools=[WEATHER], n=2)
    calls = [one["message"]["tool_calls"][0]["function"] for one in found["choices"]]
    assert calls == [{"name": "weather", "arguments": '{"city": "Bern"}'}] * 2
    assert len(two.engines["other"].asked) == 2


async def details(two: Two) -> httpx.Response:
    async with two.client("root", "admin") as admin:
        return await admin.get("/health/detailed")


async def test_the_details_tell_each_engine_apart_and_one_that_is_gone(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    await said(two, "python")
    found = (await details(two)).json()
    assert found["bases"]["other"] == {"running": 0, "written": 1, "adapters": ["python@0.1.0"], "quarantined": {}}
    assert found["engine"]["adapters"] == ["linux@0.1.0", "python@0.1.0"]
    assert (found["engine"]["written"], found["bases"]["starter"]["written"]) == (1, 0)

    async def gone() -> EngineState:
        raise Unavailable("No engine answers.")

    monkeypatch.setattr(two.engines["other"], "state", gone)
    found = (await details(two)).json()
    assert found["bases"]["other"] == {"problem": "No engine answers."}
    assert found["engine"] == found["bases"]["starter"]
    monkeypatch.setattr(two.engines["starter"], "state", gone)
    assert (await details(two)).status_code == 503


async def test_of_two_bases_with_the_same_bytes_the_first_has_the_releases(two: Two, other: Path) -> None:
    twin = FurtherBase(path=str(other), name="twin")
    models = two.settings.models.model_copy(update={"bases": (*two.settings.models.bases, twin)})
    engines = {name: ScriptedEngine(say_who) for name in ("starter", "other", "twin")}
    bases = await asyncio.to_thread(open_bases, two.settings.model_copy(update={"models": models}), engines)
    assert bases.of(two.on("other", "python", "0.3.0")).name == "other"
    assert bases.names == ["starter", "other", "twin"]


def test_a_single_base_asks_for_no_digest(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.bases.base_digest", lambda role: pytest.fail("its files need not be read"))
    bases = open_bases(settings, {"starter": ScriptedEngine(say_who)})
    release = Release(
        agent="linux",
        version="0.1.0",
        card=Agent(name="linux"),
        adapter_uri="",
        adapter_digest="",
        base_model="x",
        base_digest="",
    )
    assert bases.of(release) is bases.of(None) is bases.first


def test_the_graph_has_an_engine_for_each_base_with_its_own_settings(settings: Settings, other: Path) -> None:
    from ray.serve._private.build_app import build_app

    from serve_app.app import graph

    engine = {"max_model_len": 256, "replicas": 2, "tensor_parallel_size": 3, "cpus": 1.5}
    further = FurtherBase.model_validate({"path": str(other), "name": "other", "engine": engine})
    models = settings.models.model_copy(update={"bases": (further,)})
    built = build_app(graph(settings.model_copy(update={"models": models}), 8000), name="treadle")
    found = {one.name: one for one in built.deployments}
    assert set(found) == {"Engine", "Engine-other", "Router"}
    for name, base, longest, replicas, workers in (("Engine", "starter", 1024, 1, 1), ("Engine-other", "other", 256, 2, 3)):
        (own,) = found[name].init_args
        assert (own.models.base.name, own.models.bases, own.engine.max_model_len) == (base, (), longest)
        assert found[name].num_replicas == replicas
        assert len(found[name]._replica_config.placement_group_bundles) == workers
    handles = found["Router"].init_args[1]
    assert {base: handle.deployment_name for base, handle in handles.items()} == {"starter": "Engine", "other": "Engine-other"}
