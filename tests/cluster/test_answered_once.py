"""Keys that are answered once, and counters of replicas, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from cluster.catalog import Catalog, answered_once, meters
from cluster.domain.base import now


@pytest.fixture(params=["sqlite", "postgresql"])
def store(settings, request):
    url = settings.catalog_url if request.param == "sqlite" else request.getfixturevalue("postgresql")
    opened = Catalog(url).prepare()
    yield opened
    opened.close()


def test_of_many_that_claim_a_key_at_once_one_gets_it(store):
    until = now() + timedelta(minutes=1)

    def claim(number: int) -> bool:
        with store.transaction() as work:
            return answered_once.claim(work, "ada", "k", f"{number}", until) is None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(8))) == 1


def test_a_key_is_kept_released_and_let_go(store):
    later, past = now() + timedelta(minutes=1), now() - timedelta(seconds=1)
    with store.transaction() as work:
        assert answered_once.claim(work, "bob", "k", "d", later) is None
        assert answered_once.claim(work, "bob", "k", "d", later) == ("d", None)
        answered_once.keep(work, "bob", "k", {"text": "yes"}, later)
        assert answered_once.claim(work, "bob", "k", "other", later) == ("d", {"text": "yes"})
        assert answered_once.claim(work, "eve", "k", "d", later) is None
        answered_once.release(work, "bob", "k")
        assert answered_once.claim(work, "bob", "k", "new", past) is None
        answered_once.let_go(work)
        assert answered_once.claim(work, "bob", "k", "newer", later) is None


def test_counters_of_silent_replicas_are_put_together_once(store):
    with store.transaction() as work:
        meters.begin(work, "replica_a", {"x": 1.0, "y": 2.0})
        meters.begin(work, "replica_b", {"x": 10.0})
        assert meters.go_on(work, "replica_b", {"x": 20.0})
        assert not meters.go_on(work, "replica_c", {"x": 1.0})

    def fold(_: int) -> int:
        with store.transaction() as work:
            return meters.fold(work, now() + timedelta(seconds=1))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(fold, range(4))) == 2
    with store.reading() as work:
        (row,) = meters.everything(work)
        assert (row.replica, row.counters) == (meters.GONE, {"x": 21.0, "y": 2.0})
