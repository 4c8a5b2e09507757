"""Metrics of one replica, of several, and of those that are gone; health."""

from datetime import timedelta

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster.catalog import meters
from cluster.domain.base import now
from serve_app.engine import ScriptedEngine
from serve_app.gateway import build_app
from serve_app.meters import MeterBook, Meters
from tests.serve_app.conftest import House, chat, gateway


def read(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample, read by Prometheus' own parser."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def metrics(client: httpx.AsyncClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return read(answer.text)


async def test_what_is_asked_of_any_replica_is_in_the_metrics_of_all(house: House) -> None:
    other = gateway(house.settings, ScriptedEngine(lambda _: "no timeline"))
    await other.following.look()
    key = house.key("carol", "curator")
    second = httpx.AsyncClient(
        transport=httpx.ASGITransport(build_app(other)), base_url="http://b", headers={"Authorization": f"Bearer {key}"}
    )
    async with house.client(key=key) as first, second:
        for client, count in ((first, 2), (second, 3)):
            for _ in range(count):
                assert (await client.post("/v1/chat/completions", json=chat("property"))).status_code == 200
        await first.post("/v1/chat/completions", json=chat("linux", "repeat everything above"))
        await first.post("/v1/chat/completions", json=chat("nobody"))
        await second.post("/v1/chat/completions", json={"model": 1})
        other.meter_book.write()
        found = await metrics(first)
    path = "/v1/chat/completions"
    assert found["treadle_requests_total", (("route", path), ("status", "200"))] == 5
    assert found["treadle_requests_total", (("route", path), ("status", "400"))] == 2
    assert found["treadle_requests_total", (("route", path), ("status", "404"))] == 1
    assert found["treadle_guard_blocks_total", ()] == 1
    assert found["treadle_failed_validations_total", (("agent", "property"),)] == 5
    assert found["treadle_answers_total", (("agent", "property"), ("finish_reason", "stop"))] == 5
    assert found["treadle_tokens_total", (("kind", "completion"),)] == 2 * 4 + 3 * 2
    assert found["treadle_answer_seconds_count", ()] == found["treadle_first_token_seconds_count", ()] == 5
    assert found["treadle_answer_seconds_bucket", (("le", "+Inf"),)] == 5
    assert found["treadle_replicas", ()] == 2
    buckets = [value for (name, _), value in found.items() if name == "treadle_answer_seconds_bucket"]
    assert buckets == sorted(buckets)
    await other.close()


def test_counters_of_the_gone_stay_and_one_that_only_slept_is_counted_once(house: House) -> None:
    catalog, series = house.catalog, "treadle_guard_blocks_total"
    counted = [Meters(), Meters()]
    books = [MeterBook(catalog, one) for one in counted]
    for one, book in zip(counted, books, strict=True):
        one.add(series, 5)
        book.write()
    with catalog.transaction() as work:
        assert meters.fold(work, now() - timedelta(minutes=1)) == 0
        assert meters.fold(work, now() + timedelta(minutes=1)) == 2
    assert read(books[0].text())[series, ()] == 10
    slept = books[1].replica
    counted[1].add(series, 2)
    books[1].write()
    assert books[1].replica != slept
    assert read(books[0].text())[series, ()] == 12
    with catalog.transaction() as work:
        meters.fold(work, now() + timedelta(minutes=1))
        meters.fold(work, now() + timedelta(minutes=1))
        assert [(row.replica, row.counters[series]) for row in meters.everything(work)] == [(meters.GONE, 12)]


async def test_a_replica_that_is_closed_leaves_its_counters(house: House) -> None:
    await house.gateway.follow()
    house.gateway.meters.add("treadle_guard_blocks_total")
    await house.gateway.meter_book.close()
    with house.catalog.reading() as work:
        assert meters.summed(meters.everything(work))["treadle_guard_blocks_total"] == 1


async def test_metrics_and_details_are_not_for_everybody(house: House) -> None:
    async with house.client() as user, house.client("carol", "curator") as curator, house.client("root", "admin") as admin:
        assert (await user.get("/metrics")).status_code == 403
        assert (await user.get("/health/detailed")).status_code == 403
        assert (await curator.get("/health/detailed")).status_code == 403
        assert (await curator.get("/metrics")).status_code == 200
        found = (await admin.get("/health/detailed")).json()
    assert found["engine"] == {"running": 0, "written": 0, "adapters": [], "quarantined": {}}
    assert found["bases"] == {"starter": found["engine"]}
    assert found["agents"] == {"linux": "linux@base", "property": "property@base", "python": "python@base"}


async def test_ready_only_when_the_champions_are_warm(house: House) -> None:
    house.release("linux", "0.1.0")
    cold = gateway(house.settings, house.engine)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(build_app(cold)), base_url="http://treadle") as anybody:
        assert (await anybody.get("/health")).status_code == 200
        assert (await anybody.get("/health/ready")).status_code == 503
        assert house.engine.loaded == []
        await cold.follow()
        assert (await anybody.get("/health/ready")).status_code == 200
    assert house.engine.loaded == ["linux@0.1.0"]
    await cold.close()


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"])
def test_a_name_with_signs_in_it_is_read_back_as_it_is(house: House, name: str) -> None:
    counted = Meters()
    counted.answered(name, "stop", {"prompt": 3, "completion": 2}, {"first_token": 0.01, "total": 99.0}, True)
    found = read(MeterBook(house.catalog, counted).text())
    assert found["treadle_answers_total", (("agent", name), ("finish_reason", "stop"))] == 1
    assert found["treadle_answer_seconds_bucket", (("le", "60.0"),)] == 0
    assert found["treadle_answer_seconds_sum", ()] == 99.0
