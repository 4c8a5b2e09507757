"""Signals and turns: whose they are and what is refused."""

from typing import Any

import pytest

from tests.serve_app.conftest import House, chat


async def turn(house: House, user: str) -> str:
    async with house.client(user) as client:
        return str((await client.post("/v1/chat/completions", json=chat("linux"))).json()["treadle"]["turn_id"])


async def test_a_user_judges_their_own_turn_and_reads_it_back(house: House) -> None:
    asked = await turn(house, "ada")
    async with house.client("ada") as client:
        given = await client.post("/v1/signals", json={"turn_id": asked, "kind": "ideal_answer", "value": "ls -la"})
        read = await client.get("/v1/signals", params={"turn_id": asked})
        own = await client.get("/v1/signals")
    assert given.status_code == 201
    assert [signal["id"] for signal in read.json()["data"]] == [given.json()["id"]] == [one["id"] for one in own.json()["data"]]
    assert given.json()["user"] == "ada"


async def test_others_turns_are_not_there_and_curators_see_all(house: House) -> None:
    asked = await turn(house, "ada")
    body = {"turn_id": asked, "kind": "thumb", "value": "down"}
    async with house.client("bob") as bob, house.client("eve", "curator") as eve:
        assert (await bob.post("/v1/signals", json=body)).status_code == 404
        assert (await bob.get("/v1/signals", params={"turn_id": asked})).status_code == 404
        assert (await bob.get(f"/v1/turns/{asked}")).status_code == 404
        assert (await bob.get("/v1/signals")).json()["data"] == []
        assert (await eve.post("/v1/signals", json=body)).status_code == 201
        assert (await eve.get(f"/v1/turns/{asked}")).json()["question"] == "list the files"
        assert len((await eve.get("/v1/signals")).json()["data"]) == 1


@pytest.mark.parametrize(
    ("signal", "named"),
    [
        ({"kind": "thumb", "value": "sideways"}, "up"),
        ({"kind": "ideal_answer", "value": " "}, "ideal_answer"),
        ({"kind": "right_agent", "value": "linx"}, "linux"),
        ({"kind": "applause"}, "kind"),
        ({"kind": "failed_validation", "value": ["length"]}, "service itself"),
        ({"kind": "thumb", "value": "up", "note": "x"}, "note"),
    ],
)
async def test_an_unusable_signal_is_a_400_that_says_why(house: House, signal: dict[str, Any], named: str) -> None:
    asked = await turn(house, "ada")
    async with house.client("ada") as client:
        answer = await client.post("/v1/signals", json={"turn_id": asked, **signal})
    assert answer.status_code == 400
    assert named in answer.json()["error"]["message"]
