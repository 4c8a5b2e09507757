"""Threading: by ids, by replies, by silence."""

from datetime import UTC, datetime, timedelta
from typing import Any

from data_jobs.chat_formats import LogMessage, Thread, Unusable
from data_jobs.message_logs import threaded

START = datetime(2026, 3, 1, 9, tzinfo=UTC)


def log(*messages: dict[str, Any]) -> list[list[str]]:
    return [[one.content for one in thread.messages] for _, thread in found(*messages) if isinstance(thread, Thread)]


def found(*messages: dict[str, Any], gap_hours: float = 8.0) -> list[tuple[int, Thread | Unusable]]:
    made = []
    for line, message in enumerate(messages, 1):
        text, hours = message.pop("text"), message.pop("hours", None)
        time = None if hours is None else START + timedelta(hours=hours)
        made.append(LogMessage(line=line, said={"role": "user", "content": text}, time=time, **message))
    return list(threaded(made, gap_hours))


def test_ids_of_conversations_go_first_and_time_orders() -> None:
    assert log(
        {"text": "b1", "thread": "b", "hours": 2},
        {"text": "a2", "thread": "a", "hours": 3},
        {"text": "b0", "thread": "b", "hours": 1},
        {"text": "a1", "thread": "a", "hours": 3},
    ) == [["b0", "b1"], ["a2", "a1"]]


def test_one_message_without_a_time_leaves_the_files_order() -> None:
    assert log(
        {"text": "1", "thread": "a", "hours": 5}, {"text": "2", "thread": "a"}, {"text": "3", "thread": "a", "hours": 1}
    ) == [["1", "2", "3"]]


def test_replies_lead_to_the_first_message_wherever_it_stands() -> None:
    assert log(
        {"text": "third", "identity": "3", "parent": "2"},
        {"text": "other", "identity": "9"},
        {"text": "second", "identity": "2", "parent": "1"},
        {"text": "answer to other", "parent": "9"},
        {"text": "first", "identity": "1"},
    ) == [["third", "second", "first"], ["other", "answer to other"]]


def test_a_reply_joins_the_conversation_of_what_it_replies_to() -> None:
    assert log({"text": "1", "identity": "1", "thread": "t"}, {"text": "2", "identity": "2", "parent": "1"}) == [["1", "2"]]


def test_replies_in_a_ring_or_to_nobody_end() -> None:
    ring = ({"text": "a", "identity": "1", "parent": "2"}, {"text": "b", "identity": "2", "parent": "1"})
    assert log(*ring, {"text": "c", "parent": "2"}, {"text": "d", "parent": "gone"}) == [["a", "b", "c"], ["d"]]
    chain = [{"text": str(n), "identity": str(n), "parent": str(n + 1)} for n in range(20_000)]
    assert [len(one) for one in log(*chain)] == [20_000]


def test_silence_ends_a_conversation_in_its_own_channel() -> None:
    assert log(
        {"text": "a1", "channel": "a", "hours": 0},
        {"text": "b1", "channel": "b", "hours": 1},
        {"text": "a2", "channel": "a", "hours": 8},
        {"text": "a3", "channel": "a", "hours": 16.1},
    ) == [["a1", "a2"], ["b1"], ["a3"]]


def test_without_times_a_channel_is_one_conversation() -> None:
    assert log({"text": "1"}, {"text": "2"}) == [["1", "2"]]


def test_a_conversation_has_the_first_line_the_first_time_and_what_its_messages_say_of_it() -> None:
    ((line, thread), (other, refused)) = found(
        {"text": "2", "thread": "a", "hours": 2, "more": {"category": "later", "quality": 0.5}},
        {"text": "1", "thread": "a", "hours": 1, "more": {"category": "first"}},
        {"text": "x", "thread": "b", "more": {"quality": "good"}},
    )
    assert isinstance(thread, Thread)
    assert (line, thread.created_at, thread.category, thread.quality) == (1, START + timedelta(hours=1), "first", 0.5)
    assert isinstance(refused, Unusable)
    assert (other, refused.why[:23]) == (3, "quality cannot be used ")
