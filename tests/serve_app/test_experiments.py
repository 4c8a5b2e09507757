"""Experiments over HTTP: sides, stickiness, rollback while requests go on, shadows, replicas that agree."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from cluster.catalog import audit, conversations, experiments, releases, signals
from cluster.domain.releases import CHAMPION
from cluster.errors import IntegrityError, Unavailable
from serve_app.engine import Delta, GenerationRequest, ScriptedEngine
from serve_app.gateway import Gateway, build_app
from serve_app.shadows import Shadows
from tests.serve_app.conftest import House, chat, gateway
from tests.serve_app.test_answering_once import served

PATH = "/v1/chat/completions"
GOOD = "Somebody comes within 2 days."


def script(request: GenerationRequest) -> str:
    """The second release of 'property' breaks its agent's rule."""
    return "Somebody will come." if request.adapter == "property@0.2.0" else GOOD


async def tried(house: House, agent: str = "property", **body: Any) -> dict[str, Any]:
    """Two releases, an experiment between them, and its challenger ready."""
    for version in ("0.1.0", "0.2.0"):
        house.release(agent, version, champion=version == "0.1.0")
    async with house.client("eve", "curator") as curator:
        answer = await curator.post("/v1/experiments", json={"challenger": f"{agent}@0.2.0", **body})
    assert answer.status_code == 201, answer.text
    await house.gateway.following.look()
    made: dict[str, Any] = answer.json()
    return made


async def ask(
    client: httpx.AsyncClient, model: str = "property", question: str = "The heating is off.", **more: Any
) -> dict[str, Any]:
    answer = await client.post(PATH, json=chat(model, question, **more))
    assert answer.status_code == 200, answer.text
    about: dict[str, Any] = answer.json()["treadle"]
    return about


async def until(done: Callable[[], Any], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not done():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def replica(house: House, engine: ScriptedEngine | None = None) -> AsyncIterator[Gateway]:
    """One more gateway on the same catalog."""
    made = gateway(house.settings, engine or house.engine)
    await made.following.look()
    try:
        yield made
    finally:
        await made.close()


async def shown(house: House, which: str = "property") -> dict[str, Any]:
    async with house.client("eve", "curator") as curator:
        found: dict[str, Any] = (await curator.get(f"/v1/experiments/{which}")).json()
    return found


async def test_conversations_are_divided_by_the_share_and_stay_on_their_side_on_every_replica(house: House) -> None:
    running = await tried(house, "linux", share=0.3)
    sides: dict[str, str] = {}
    async with house.client() as client:
        for _ in range(200):
            about = await ask(client, "linux")
            assert about["experiment"]["id"] == running["id"]
            assert about["release"] == running[about["experiment"]["arm"]]
            sides[about["conversation_id"]] = about["release"]
        share = Counter(sides.values())["linux@0.2.0"] / len(sides)
        assert 0.15 < share < 0.45, share
        async with replica(house) as other:
            headers = client.headers
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(build_app(other)), base_url="http://b", headers=headers
            ) as elsewhere:
                for number, (conversation, release) in enumerate(list(sides.items())[:40]):
                    who = elsewhere if number % 2 else client
                    about = await ask(who, "linux", treadle={"conversation_id": conversation})
                    assert (about["conversation_id"], about["release"]) == (conversation, release)


async def test_a_talk_without_an_id_stays_on_its_side_too(house: House) -> None:
    await tried(house, "linux", share=0.5)
    seen = set()
    async with house.client() as client:
        for number in range(20):
            first = await ask(client, "linux", f"Question {number}")
            talk = [{"role": "user", "content": f"Question {number}"}, {"role": "assistant", "content": "ls"}]
            for follow in ("and then?", "and now?"):
                talk.append({"role": "user", "content": follow})
                again = (await client.post(PATH, json={"model": "linux", "messages": talk})).json()["treadle"]
                assert again["experiment"] == first["experiment"]
                talk.append({"role": "assistant", "content": "ls"})
            seen.add(first["release"])
    assert len(seen) == 2
    found = await shown(house, "linux")
    assert found["champion"]["turns"] + found["challenger"]["turns"] == 60
    assert found["champion"]["conversations"] + found["challenger"]["conversations"] == 20


async def test_only_questions_by_name_or_auto_that_leave_a_turn_are_in_it(house: House) -> None:
    await tried(house, "linux", share=0.99)
    async with house.client() as client:
        for model in ("linux", "auto"):
            about = [await ask(client, model) for _ in range(3)]
            assert "linux@0.2.0" in {one["release"] for one in about}
        for model, more in (
            ("linux@0.1.0", {}),
            ("linux@champion", {}),
            ("linux@base", {}),
            ("linux", {"treadle": {"record": False}}),
            ("python", {}),
        ):
            assert "experiment" not in await ask(client, model, **more)
        turn = (await client.get(f"/v1/turns/{about[0]['turn_id']}")).json()
        assert turn["experiment"]["arm"] == about[0]["experiment"]["arm"]
        async with house.client("root", "admin") as root:
            await root.patch("/v1/agents/linux", json={"generation": {"max_tokens": 1}})
            await house.gateway.following.look()
            answers = [(await client.post(PATH, json=chat("linux"))).json() for _ in range(4)]
    told = {one["treadle"]["release"]: one["choices"][0]["message"]["content"] for one in answers}
    assert told["linux@0.2.0"] == "linux@0.2.0", "live settings hold for the challenger as for its champion"


async def test_a_bad_challenger_is_rolled_back_by_itself_while_no_request_fails(house: House) -> None:
    house.engine._script = script
    running = await tried(house, kind="canary", share=0.3)
    async with replica(house) as other:
        for one in (house.gateway, other):
            one.judge.every = 0.1
            await one.follow()
        house.gateway.live.problems.clear()
        server, task, url = await served(house)
        statuses: list[int] = []
        releases_seen: list[str] = []
        over = asyncio.Event()

        async def user() -> None:
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
                while not over.is_set():
                    answer = await client.post(PATH, json=chat("property", "The heating is off.", stream=False))
                    statuses.append(answer.status_code)
                    releases_seen.append(answer.json()["treadle"]["release"])

        headers = {"Authorization": f"Bearer {house.key('ada')}"}
        users = [asyncio.create_task(user()) for _ in range(4)]
        try:
            await until(lambda: not house.gateway.live.on_trial and not other.live.on_trial, 60)
            settled = len(releases_seen) + len(users)  # those under way end where they began
            await until(lambda: len(releases_seen) > settled + 40)
        finally:
            over.set()
            await asyncio.gather(*users)
            server.should_exit = True
            await task
    assert set(statuses) == {200}
    assert "property@0.2.0" in releases_seen[:settled]
    assert set(releases_seen[settled:]) == {"property@0.1.0"}
    found = await shown(house)
    assert found["experiment"]["state"] == "rolled_back"
    assert "more failed validations" in found["experiment"]["reason"]
    assert found["challenger"]["failed_validations"] == found["challenger"]["turns"] > 0
    assert found["champion"]["failed_validations"] == 0
    with house.catalog.reading() as work:
        (ended,) = audit.recent(work, action="experiment.end")
        assert (ended.user, ended.target, ended.detail["state"]) == ("gateway", running["id"], "rolled_back")


async def test_a_canary_is_promoted_at_its_end_and_both_replicas_follow(house: House) -> None:
    house.engine._script = lambda request: GOOD if request.adapter == "property@0.2.0" else "Somebody will come."
    settings = {"metrics": ["validation"], "promote": True, "min_turns": 10}
    running = await tried(house, kind="canary", share=0.5, settings=settings)
    async with house.client() as client:
        for _ in range(60):
            await ask(client)
        async with replica(house) as other:
            for one in (house.gateway, other):
                one.judge.every = 0.1
                await one.follow()
            await until(lambda: all(one.live.champion("property").ref == "property@0.2.0" for one in (house.gateway, other)), 60)
            await until(lambda: not house.gateway.live.experiments, 60)  # it ends when MLflow has been told
        assert (await ask(client))["release"] == "property@0.2.0"
    with house.catalog.reading() as work:
        assert releases.alias(work, "property", CHAMPION) == "0.2.0"
        assert running["id"] in releases.moves(work, "property")[-1].reason
        assert len(audit.recent(work, action="experiment.end")) == 1
    assert (await shown(house))["experiment"]["state"] == "promoted"


async def test_a_challenger_that_cannot_be_loaded_leaves_all_to_the_champion_and_the_problem_is_said(house: House) -> None:
    house.engine.broken["linux@0.2.0"] = IntegrityError("adapter_model.safetensors has changed.")
    running = await tried(house, "linux", share=0.9)
    async with house.client() as client:
        for _ in range(10):
            about = await ask(client, "linux")
            assert (about["release"], "experiment" in about) == ("linux@0.1.0", False)
    assert (await shown(house, "linux"))["problem"] == "adapter_model.safetensors has changed."
    async with house.client("root", "admin") as root:
        problems = (await root.get("/health/detailed")).json()["problems"]
        assert problems == {f"experiment {running['id']}": "adapter_model.safetensors has changed."}
        await root.post(f"/v1/experiments/{running['id']}/stop", json={})
    await house.gateway.following.look()
    assert house.gateway.live.problems == {}


async def test_the_champion_answers_when_the_challenger_fails_and_the_failure_is_counted(house: House) -> None:
    await tried(house, "linux", share=0.5)
    house.engine.broken["linux@0.2.0"] = Unavailable("The adapter was thrown out.")
    async with house.client() as client:
        about = [await ask(client, "linux") for _ in range(60)]
        streamed = await client.post(PATH, json=chat("linux", stream=True))
    assert {one["release"] for one in about} == {"linux@0.1.0"}
    assert streamed.text.rstrip().endswith("data: [DONE]")
    fell = [one for one in about if one["experiment"].get("fallback")]
    assert 15 <= len(fell) <= 45
    await house.gateway.answering.experiments.close()
    found = await shown(house, "linux")
    assert found["challenger"]["errors"] >= len(fell)
    assert (found["challenger"]["turns"], found["champion"]["errors"]) == (0, 0)
    assert found["finding"] == "worse"


async def test_failures_of_everybody_are_everybodys_and_clients_mistakes_nobodys(house: House) -> None:
    await tried(house, "linux", share=0.5)
    async with house.client() as client:
        for _ in range(10):
            answer = await client.post(PATH, json=chat("linux", "long " * 3000))
            assert answer.status_code == 400
        for release in ("linux@0.1.0", "linux@0.2.0"):
            house.engine.broken[release] = Unavailable("The engine is away.")
        for _ in range(20):
            assert (await client.post(PATH, json=chat("linux"))).status_code == 503
    await house.gateway.answering.experiments.close()
    found = await shown(house, "linux")
    assert found["champion"]["errors"] > 0
    assert found["champion"]["errors"] + found["challenger"]["errors"] == 20


async def test_a_generation_that_breaks_in_the_middle_is_counted(house: House) -> None:
    class Breaking(ScriptedEngine):
        async def generate(self, request: GenerationRequest) -> AsyncIterator[Delta]:
            async for delta in super().generate(request):
                yield delta
                if request.adapter == "linux@0.2.0":
                    raise Unavailable("The engine broke.")

    house.speaks(Breaking(lambda _: "one two three"))
    await tried(house, "linux", share=0.5)
    async with house.client() as client:
        texts = [(await client.post(PATH, json=chat("linux", stream=True))).text for _ in range(20)]
    broken = sum("The engine broke." in text for text in texts)
    await house.gateway.answering.experiments.close()
    found = await shown(house, "linux")
    assert 1 <= broken <= 19
    assert (found["challenger"]["errors"], found["champion"]["errors"]) == (broken, 0)


async def test_a_shadow_never_changes_the_answer_and_is_seen_by_nobody(house: House) -> None:
    house.engine._script = script
    running = await tried(house, kind="shadow", settings={"shadow_at_once": 4, "auto_rollback": False})
    async with house.client() as client:
        for number in range(30):
            answer = await client.post(PATH, json=chat("property", f"Question {number}", stream=number % 2 > 0))
            assert "Somebody will come." not in answer.text
            assert "property@0.2.0" not in answer.text.replace(running["id"], "")
            await until(lambda: not house.gateway.answering.experiments.shadows._under_way)
        listed = (await client.get("/v1/signals")).json()["data"]
    found = await shown(house)
    assert (found["champion"]["turns"], found["challenger"]["turns"]) == (30, 30)
    assert (found["champion"]["failed_validations"], found["challenger"]["failed_validations"]) == (0, 30)
    assert found["finding"] == "worse"
    async with house.client("eve", "curator") as curator:
        pairs = (await curator.get(f"/v1/experiments/{running['id']}/answers?limit=5")).json()["data"]
        metrics = (await curator.get("/metrics")).text
    assert [(one["champion"]["answer"], one["challenger"]["answer"]) for one in pairs] == [(GOOD, "Somebody will come.")] * 5
    assert 'treadle_answers_total{agent="property",finish_reason="stop"} 30' in metrics, "shadows are no answers"
    with house.catalog.reading() as work:
        kept = conversations.recent(work)
        assert {one.answer for one in kept} == {GOOD}
        assert len(kept) == 30
        assert listed == []
        assert signals.waiting(work) == [], "nothing to learn from what nobody saw"


async def test_shadows_are_few_at_a_time_and_dropped_while_the_engine_is_busy(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = [0]
    begun = Shadows._run

    async def counting(self: Shadows, *given: Any) -> None:
        most[0] = max(most[0], len(self._under_way))
        await begun(self, *given)

    monkeypatch.setattr(Shadows, "_run", counting)
    house.engine._pause = 0.01
    await tried(house, "linux", kind="shadow", settings={"shadow_at_once": 2})
    async with house.client() as client, house.client("eve", "curator") as curator:
        await asyncio.gather(*(ask(client, "linux") for _ in range(12)))
        await until(lambda: not house.gateway.answering.experiments.shadows._under_way)
        first = await shown(house, "linux")
        house.engine.running += 100
        await ask(client, "linux")
        await until(lambda: not house.gateway.answering.experiments.shadows._under_way)
        metrics = (await curator.get("/metrics")).text
    assert most[0] == 2
    assert first["challenger"]["turns"] + first["unpaired"] == 12
    assert first["unpaired"] > 0
    assert f'treadle_shadows_dropped_total{{agent="linux"}} {first["unpaired"] + 1}' in metrics


async def test_a_failed_shadow_is_an_error_of_the_challenger_alone(house: House) -> None:
    await tried(house, "linux", kind="shadow")
    house.engine.broken["linux@0.2.0"] = Unavailable("The adapter was thrown out.")
    async with house.client() as client:
        assert (await ask(client, "linux"))["release"] == "linux@0.1.0"
        await until(lambda: not house.gateway.answering.experiments.shadows._under_way)
    found = await shown(house, "linux")
    assert (found["challenger"]["errors"], found["challenger"]["turns"], found["champion"]["errors"]) == (1, 0, 0)


async def test_stopped_by_a_person_the_champion_answers_all_on_both_replicas(house: House) -> None:
    running = await tried(house, "linux", share=0.9)
    async with replica(house) as other, house.client() as client, house.client("eve", "curator") as curator:
        await asyncio.gather(house.gateway.follow(), other.follow())
        assert "linux@0.2.0" in {(await ask(client, "linux"))["release"] for _ in range(5)}
        again = await curator.post("/v1/experiments", json={"challenger": "linux@0.2.0"})
        stopped = await curator.post(f"/v1/experiments/{running['id']}/stop", json={"reason": "seen enough"})
        twice = await curator.post(f"/v1/experiments/{running['id']}/stop", json={})
        assert (again.status_code, stopped.status_code, twice.status_code) == (409, 200, 409)
        assert (stopped.json()["state"], stopped.json()["reason"]) == ("stopped", "seen enough")
        await until(lambda: not house.gateway.live.on_trial and not other.live.on_trial)
        assert {(await ask(client, "linux"))["release"] for _ in range(10)} == {"linux@0.1.0"}
        listed = (await curator.get("/v1/experiments?agent=linux")).json()["data"]
        unknown = await curator.get("/v1/experiments/linx")
    assert [one["id"] for one in listed] == [running["id"]]
    assert unknown.status_code == 404
    with house.catalog.reading() as work:
        entries = [(one.action, one.user, one.target) for one in audit.recent(work, 2)]
    assert entries == [("experiment.end", "eve", running["id"]), ("experiment.start", "eve", running["id"])]


async def test_a_champion_that_was_promoted_meanwhile_is_not_in_the_experiment(house: House) -> None:
    await tried(house, "linux", share=0.9)
    house.release("linux", "0.3.0")
    await house.gateway.following.look()
    async with house.client() as client:
        assert {(await ask(client, "linux"))["release"] for _ in range(10)} == {"linux@0.3.0"}


async def test_without_an_experiment_the_catalog_is_asked_nothing_more(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("no experiment is running")

    for name in ("record_error", "trials_of", "_put"):
        monkeypatch.setattr(experiments, name, never)
    monkeypatch.setattr(house.gateway.answering.experiments, "answered", never)
    async with house.client() as client:
        about = await ask(client, "linux")
    assert "experiment" not in about
