"""Keys, models, errors: what every client meets."""

import httpx
import pytest

from cluster.catalog import users
from cluster.errors import Unavailable
from tests.serve_app.conftest import House, chat


async def test_everything_but_health_needs_a_key(house: House) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(house.app), base_url="http://treadle") as nobody:
        assert (await nobody.get("/health")).status_code == 200
        assert (await nobody.get("/health/ready")).status_code == 200
        for method, path in [("GET", "/v1/models"), ("GET", "/v1/signals"), ("GET", "/v1/turns/x"), ("GET", "/health/detailed")]:
            assert (await nobody.request(method, path)).status_code == 401, path
        answer = await nobody.post("/v1/chat/completions", json=chat("linux"))
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "authentication_error"
    async with house.client(key="tdl_wrong") as stranger:
        assert (await stranger.post("/v1/chat/completions", json=chat("linux"))).status_code == 401


async def test_a_key_without_rights_learns_nothing_from_an_unusable_body(house: House) -> None:
    async with house.client(key="tdl_wrong") as stranger:
        assert (await stranger.post("/v1/chat/completions", json={"model": 1})).status_code in (400, 401)


async def test_a_revoked_key_is_refused_within_a_second(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    key = house.key("ada")
    async with house.client(key=key) as client:
        assert (await client.get("/v1/models")).status_code == 200
        with house.catalog.transaction() as work:
            users.revoke(work, key[:10])
        later = __import__("time").monotonic() + 1.1
        monkeypatch.setattr("serve_app.identity.time.monotonic", lambda: later)
        assert (await client.get("/v1/models")).status_code == 401


async def test_models_lists_every_name_that_answers(house: House) -> None:
    house.release("linux", "0.1.0")
    house.release("router", "0.1.0", champion=False)
    async with house.client() as client:
        names = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
        assert (await client.get("/v1/models/linux@0.1.0")).json()["id"] == "linux@0.1.0"
        assert (await client.get("/v1/models/linux@0.2.0")).status_code == 404
    assert names == [
        "auto",
        "linux",
        "property",
        "python",
        "linux@base",
        "property@base",
        "python@base",
        "linux@0.1.0",
        "starter",
    ]


@pytest.mark.parametrize("model", ["linx", "linux@0.1.1", "router", "router@0.1.0", "linux@champion"])
async def test_an_unknown_model_is_a_404_with_near_names_and_never_reaches_the_engine(house: House, model: str) -> None:
    house.release("property", "0.1.0")
    async with house.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat(model, stream=True))
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["type"] == "not_found_error"
    assert model in error["message"]
    if model == "linx":
        assert "linux" in error["message"]
    assert house.engine.loaded == []


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"messages": [{"role": "user", "content": "x"}]}, "model"),
        (chat("linux") | {"messages": []}, "messages"),
        (chat("linux") | {"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        (chat("linux") | {"messages": [{"role": "assistant", "content": "x"}]}, "last message"),
        (chat("linux") | {"messages": [{"role": "user", "content": "  "}]}, "last message"),
        (chat("linux", temperature=3), "temperature"),
        (chat("linux", max_tokens=0), "max_tokens"),
        (chat("linux", n=9), "n"),
        (chat("linux", treadle={"retreive": True}), "treadle.retreive"),
    ],
)
async def test_an_unusable_body_is_a_400_with_one_sentence_that_names_the_field(house: House, body: dict, named: str) -> None:
    async with house.client() as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert named in message
    assert "\n" not in message


async def test_a_body_that_is_no_json_and_a_path_that_is_none(house: House) -> None:
    async with house.client() as client:
        broken = await client.post("/v1/chat/completions", content=b"{not json", headers={"content-type": "application/json"})
        missing = await client.get("/v1/nothing")
        wrong = await client.get("/v1/chat/completions")
    assert (broken.status_code, missing.status_code, wrong.status_code) == (400, 404, 405)
    assert all("message" in answer.json()["error"] for answer in (broken, missing, wrong))


async def test_a_prompt_longer_than_the_model_takes_is_a_400(house: House) -> None:
    async with house.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat("linux", "9 " * 2000))
    assert answer.status_code == 400
    assert "1023" in answer.json()["error"]["message"]


async def test_an_adapter_that_cannot_be_loaded_is_an_error_of_its_own_request_only(house: House) -> None:
    house.release("linux", "0.1.0", champion=False)
    house.engine.broken["linux@0.1.0"] = Unavailable("The adapter of release 'linux@0.1.0' cannot be loaded: rank 64.")
    async with house.client() as client:
        for stream in (False, True):
            broken = await client.post("/v1/chat/completions", json=chat("linux@0.1.0", stream=stream))
            assert broken.status_code == 503
            assert "rank 64" in broken.json()["error"]["message"]
        fine = await client.post("/v1/chat/completions", json=chat("linux"))
    assert fine.status_code == 200
