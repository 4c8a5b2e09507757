"""Limits, and that replicas share them."""

import pytest

from cluster.catalog import Catalog
from cluster.errors import TooMany
from cluster.settings import LimitSettings, Settings
from serve_app.limits import Limits
from tests.serve_app.conftest import House, chat, gateway

NOON = 1_800_000_000.0 - 1_800_000_000 % 86_400 + 12 * 3600


def told(catalog: Catalog, *replicas: Limits) -> None:
    for one in replicas:
        with catalog.transaction() as work:
            one.tell(work)
    for one in replicas:
        with catalog.reading() as work:
            one.hear(work)


def limited(house: House, **limits: int) -> None:
    router = house.settings.router.model_copy(update={"limits": {"user": LimitSettings(**limits)}})
    house.gateway.settings = house.settings.model_copy(update={"router": router})


def test_the_last_one_that_fits_is_let_in_and_the_next_is_told_when_to_come_back() -> None:
    present = [NOON + 15]
    limits = Limits(lambda: present[0])
    for _ in range(3):
        limits.take("requests/ada", "minute", 3, "requests")
    with pytest.raises(TooMany, match="3 requests a minute are used up; try again in 45 seconds") as refused:
        limits.take("requests/ada", "minute", 3, "requests")
    assert refused.value.retry_after == 45
    limits.take("requests/bob", "minute", 3, "requests")
    present[0] = NOON + 60
    limits.take("requests/ada", "minute", 3, "requests")


def test_replicas_count_together(settings: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    present = [time.time()]
    one, two = Limits(lambda: present[0]), Limits(lambda: present[0])
    one.add("tokens/ada", "day", 700)
    two.add("tokens/ada", "day", 400)
    told(catalog, one, two)
    assert one.used("tokens/ada", "day") == two.used("tokens/ada", "day") == 1100
    told(catalog, one, two)
    assert one.used("tokens/ada", "day") == 1100, "telling twice counts once"
    for replica in (one, two):
        with pytest.raises(TooMany):
            replica.check("tokens/ada", "day", 1000, "tokens")
    late = Limits(lambda: present[0])
    late.add("tokens/ada", "day", 1)
    told(catalog, late)
    assert late.used("tokens/ada", "day") == 1101, "what a replica counted that is gone by now still counts"


def test_periods_that_are_over_are_let_go(catalog: Catalog) -> None:
    past = Limits(lambda: 1_000_000.0)
    past.add("requests/ada", "minute", 5)
    told(catalog, past)
    with catalog.transaction() as work:
        assert work.connection.exec_driver_sql("SELECT count(*) FROM usage").scalar() == 0
    present = [NOON]
    limits = Limits(lambda: present[0])
    limits.add("requests/ada", "minute", 5)
    told(catalog, limits)
    present[0] += 3600
    told(catalog, limits)
    assert not limits.to_hear


async def test_too_many_requests_are_a_429_with_retry_after(house: House) -> None:
    limited(house, requests_per_minute=3)
    async with house.client("ada") as client, house.client("eve", "curator") as eve, house.client("bob") as bob:
        statuses = [(await client.get("/v1/models")).status_code for _ in range(4)]
        refused = await client.post("/v1/chat/completions", json=chat("linux"))
        about = (await client.get("/v1/auth/me")).json()
        assert (await eve.get("/v1/models")).status_code == (await bob.get("/v1/models")).status_code == 200
    assert statuses[:3] == [200, 200, 200]
    assert refused.status_code == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert about["limits"]["requests_per_minute"] == 3


async def test_two_gateways_share_a_users_minute(house: House) -> None:
    limited(house, requests_per_minute=4)
    other = gateway(house.gateway.settings, house.engine)
    async with house.client("ada") as client:
        for _ in range(4):
            assert (await client.get("/v1/models")).status_code == 200
        await house.gateway.books.write()
        caller = await house.gateway.identities.of(client.headers, {}, False)
    other.admit(caller, asks=False)
    await other.books.write()
    with pytest.raises(TooMany):
        other.admit(caller, asks=False)
    await other.close()


async def test_a_days_tokens_are_those_of_prompts_and_answers_of_all_keys(house: House) -> None:
    limited(house, tokens_per_day=40)
    async with house.client("ada") as one, house.client("ada") as other:
        first = (await one.post("/v1/chat/completions", json=chat("linux"))).json()["usage"]["total_tokens"]
        assert (await one.get("/v1/auth/me")).json()["limits"]["tokens_today"] == first
        async with one.stream("POST", "/v1/chat/completions", json=chat("linux", stream=True)) as streamed:
            await streamed.aread()
        while (await one.get("/v1/auth/me")).json()["limits"]["tokens_today"] < 40:
            assert (await one.post("/v1/chat/completions", json=chat("linux"))).status_code == 200
        refused = await other.post("/v1/chat/completions", json=chat("linux"))
        assert refused.status_code == 429
        assert "40 tokens a day" in refused.json()["error"]["message"]
        assert (await other.get("/v1/models")).status_code == 200
