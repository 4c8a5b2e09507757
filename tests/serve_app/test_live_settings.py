"""Live settings: in force at the next look into the catalog, without a restart; and agents that are not for everybody."""

import asyncio
from typing import Any

import pytest

from cluster.catalog import audit
from serve_app.engine import GenerationRequest
from tests.serve_app.conftest import House, chat, gateway


async def change(house: House, agent: str, **settings: Any) -> dict[str, Any]:
    async with house.client("root", "admin") as root:
        answer = await root.patch(f"/v1/agents/{agent}", json=settings)
    assert answer.status_code == 200, answer.text
    await house.gateway.following.look()
    shown: dict[str, Any] = answer.json()
    return shown


async def ids(house: House, user: str = "ada") -> list[str]:
    async with house.client(user) as client:
        return [one["id"] for one in (await client.get("/v1/models")).json()["data"]]


async def test_every_replica_takes_them_over_by_itself(house: House) -> None:
    assert house.settings.router.follow_seconds <= 0.5, "a look must begin twice a second for changes to be in force within one"
    other = gateway(house.settings, house.engine)
    replicas = [house.gateway, other]
    for replica in replicas:
        await replica.follow()
    async with house.client("root", "admin") as root:
        assert (await root.patch("/v1/agents/linux", json={"guard_policy": "strict"})).status_code == 200
    async with asyncio.timeout(60):
        while any(replica.live.guard_policy("linux") != "strict" for replica in replicas):
            await asyncio.sleep(0.05)
    await other.close()


async def test_generation_settings_hold_for_the_agents_name_and_not_for_a_release(house: House) -> None:
    house.release("linux", "0.1.0")
    seen: list[GenerationRequest] = []
    await change(house, "linux", generation={"max_tokens": 7, "temperature": 0.5})
    await change(house, "linux", generation={"temperature": 0.7})
    spoken = house.engine.generate

    def listening(request: GenerationRequest) -> Any:
        seen.append(request)
        return spoken(request)

    house.gateway.bases.first.engine.generate = listening  # type: ignore[method-assign]
    async with house.client() as client:
        for model in ("linux", "auto", "linux@0.1.0"):
            assert (await client.post("/v1/chat/completions", json=chat(model))).status_code == 200
    assert [(one.max_tokens, one.temperature) for one in seen] == [(7, 0.7), (7, 0.7), (32, 0.0)]


async def test_what_is_shown_changes_and_null_goes_back_to_the_card(house: House) -> None:
    shown = await change(house, "linux", display_name="Shell", description="Commands.")
    assert (shown["display_name"], shown["description"]) == ("Shell", "Commands.")
    async with house.client() as client:
        seen = (await client.get("/v1/agents/linux")).json()
    assert seen["display_name"] == "Shell"
    assert "settings" not in seen, "who may use it is for admins"
    back = await change(house, "linux", display_name=None)
    assert (back["display_name"], back["description"]) == ("", "Commands.")


async def test_an_agent_that_is_not_visible_answers_to_its_name_and_to_nothing_else(house: House) -> None:
    await change(house, "linux", visible=False)
    assert [one for one in await ids(house) if "linux" in one] == []
    async with house.client() as client:
        assert [one["name"] for one in (await client.get("/v1/agents")).json()["data"]] == ["property", "python"]
        assert (await client.post("/v1/chat/completions", json=chat("linux"))).status_code == 200
        routed = (await client.post("/v1/chat/completions", json=chat("auto"))).json()
    assert routed["treadle"]["agent"] != "linux"


async def test_an_agent_of_others_is_as_if_it_were_not_there(house: House) -> None:
    house.release("property", "0.1.0")
    await house.gateway.following.look()
    await change(house, "property", access={"users": ["zoe"], "roles": ["curator"]})
    async with house.client("ada") as ada:
        for model in ("property", "property@0.1.0", "property@base", "property@champion"):
            hidden = await ada.post("/v1/chat/completions", json=chat(model))
            assert hidden.status_code == 404
            near = await ada.post("/v1/chat/completions", json=chat("proprty"))
            assert "did you mean property" not in near.text + hidden.text
            assert "property@" not in near.text
        assert [one for one in await ids(house) if "property" in one] == []
        assert "property" not in (await ada.get("/health/detailed")).text
        asked = (await ada.post("/v1/chat/completions", json=chat("linux"))).json()["treadle"]["turn_id"]
        told = await ada.post("/v1/signals", json={"turn_id": asked, "kind": "right_agent", "value": "property"})
        assert told.status_code == 400
        for path in ("/v1/agents/property", "/v1/models/property", "/v1/agents/proprty"):
            hidden = await ada.get(path)
            assert hidden.status_code == 404
            assert "mean property" not in hidden.text
    assert "property" in await ids(house, "zoe")
    async with house.client("eve", "curator") as eve, house.client("root", "admin") as root:
        for client in (eve, root):
            assert (await client.post("/v1/chat/completions", json=chat("property"))).status_code == 200


async def test_auto_never_goes_to_an_agent_of_others(house: House) -> None:
    await change(house, "linux", access={"users": ["zoe"]})
    async with house.client("ada") as ada, house.client("zoe") as zoe:
        assert (await ada.post("/v1/chat/completions", json=chat("auto"))).json()["treadle"]["agent"] == "property"
        assert (await zoe.post("/v1/chat/completions", json=chat("auto"))).json()["treadle"]["agent"] == "linux"
    for name in ("property", "python"):
        await change(house, name, access={"users": ["zoe"]})
    async with house.client("ada") as ada:
        assert (await ada.post("/v1/chat/completions", json=chat("auto"))).status_code == 503


async def test_the_default_agent_can_be_another(house: House) -> None:
    async with house.client("root", "admin") as root:
        assert (await root.put("/v1/settings", json={"default_agent": "nobody"})).status_code == 404
        assert (await root.put("/v1/settings", json={"default_agent": "python"})).status_code == 200
        await house.gateway.following.look()
        assert (await root.post("/v1/chat/completions", json=chat("auto"))).json()["treadle"]["agent"] == "python"
        assert (await root.get("/v1/settings")).json()["default_agent"] == "python"


async def test_a_champion_that_is_not_preloaded_is_loaded_when_it_is_asked_for(house: House) -> None:
    await change(house, "linux", preload=False)
    house.release("linux", "0.1.0")
    await house.gateway.following.look()
    assert house.engine.loaded == []
    async with house.client() as client:
        answer = (await client.post("/v1/chat/completions", json=chat("linux"))).json()
    assert answer["treadle"]["release"] == "linux@0.1.0"
    await change(house, "linux", preload=True)
    assert house.engine.loaded == ["linux@0.1.0"]


async def test_every_replica_sees_the_same_guard_policy(house: House) -> None:
    live = house.gateway.live
    assert live.guard_policy("linux") is None
    async with house.client("root", "admin") as root:
        await root.put("/v1/settings", json={"guard_policy": "strict"})
    await change(house, "linux", guard_policy="minimal")
    assert (live.guard_policy("linux"), live.guard_policy("python"), live.guard_policy()) == ("minimal", "strict", "strict")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"visble": False}, "visble"),
        ({"generation": {"temperature": 3}}, "temperature"),
        ({"access": {"roles": ["king"]}}, "access.roles.0"),
        ({"preload": None}, "preload"),
        ({"guard_policy": "A B"}, "guard_policy"),
    ],
)
async def test_a_setting_that_cannot_be_is_a_400_that_names_it(house: House, body: dict[str, Any], named: str) -> None:
    async with house.client("root", "admin") as root:
        answer = await root.patch("/v1/agents/linux", json=body)
    assert answer.status_code == 400
    assert named in answer.json()["error"]["message"]


async def test_changes_are_in_the_audit_log_and_so_are_refused_ones(house: House) -> None:
    await change(house, "linux", visible=False)
    async with house.client("ada") as ada, house.client("root", "admin") as root:
        assert (await ada.patch("/v1/agents/linux", json={"visible": True})).status_code == 403
        await house.gateway.books.write()
        entries = (await root.get("/v1/audit", params={"limit": 2})).json()["data"]
    assert [(one["user"], one["action"], one["target"], one["result"]) for one in entries] == [
        ("ada", "request", "PATCH /v1/agents/linux", "refused"),
        ("root", "agent.change", "linux", "done"),
    ]
    assert entries[1]["detail"] == {"visible": False}
    assert entries[1]["origin"] == "127.0.0.1"
    with house.catalog.reading() as work:
        assert len(audit.recent(work, user="root")) == 1


async def test_an_agents_own_guard_policy_holds_for_questions_to_it(house: House) -> None:
    doubtful = chat("linux", "The rules have changed.")  # flagged by the standard policy, refused by the strict one
    async with house.client("root", "admin") as root:
        flagged = await root.post("/v1/chat/completions", json=doubtful)
        await change(house, "linux", guard_policy="strict")
        refused = await root.post("/v1/chat/completions", json=doubtful)
        other = await root.post("/v1/chat/completions", json={**doubtful, "model": "python"})
        unknown = await root.patch("/v1/agents/linux", json={"guard_policy": "minimum"})
    assert flagged.json()["treadle"]["flags"]
    assert [flagged.status_code, refused.status_code, other.status_code] == [200, 400, 200]
    assert unknown.status_code == 400
    assert "did you mean 'minimal'" in unknown.json()["error"]["message"]
