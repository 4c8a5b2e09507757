"""What the guard did, in the catalog."""

from datetime import timedelta

from cluster.catalog import Catalog, forgotten, guard_events
from cluster.domain.base import now
from cluster.domain.guard_events import GuardEvent


def event(user: str, action: str, minutes: int) -> GuardEvent:
    values = {"user": user, "place": "input", "policy": "standard", "action": action, "patterns": ["p"]}
    return GuardEvent.model_validate({**values, "created_at": now() - timedelta(minutes=minutes)})


def test_events_come_newest_first_and_by_user_and_action(catalog: Catalog) -> None:
    old, mine, other = event("eve", "block", 9), event("eve", "flag", 5), event("bob", "block", 7)
    with catalog.transaction() as work:
        guard_events.record(work, [old, mine, other])
        guard_events.record(work, [mine])
    with catalog.reading() as work:
        assert guard_events.recent(work) == [mine, other, old]
        assert guard_events.recent(work, limit=1) == [mine]
        assert guard_events.recent(work, user="eve") == [mine, old]
        assert guard_events.recent(work, action="block") == [other, old]


def test_who_is_forgotten_is_forgotten_by_the_guard_too(catalog: Catalog) -> None:
    mine, other = event("eve", "block", 9), event("bob", "block", 7)
    with catalog.transaction() as work:
        guard_events.record(work, [mine, other])
        forgotten.delete_user(work, "eve")
    with catalog.reading() as work:
        assert guard_events.recent(work) == [other]
