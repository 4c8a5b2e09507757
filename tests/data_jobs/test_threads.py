"""One conversation to rows, or to a reason. Plain functions, no Ray."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from cluster.domain.conversations import Message
from cluster.domain.data_recipes import ConversationsRecipe
from cluster.domain.datasets import DpoRow, RouterRow, SftRow
from cluster.domain.documents import Dropped
from data_jobs.threads import Thread, read_threads, rows_of


def recipe(**changes: Any) -> ConversationsRecipe:
    return ConversationsRecipe(**{"paths": ("x",), "dataset": "d", "agent": "property", **changes})


def thread(*said: tuple[str, str], **more: Any) -> Thread:
    return Thread(messages=[{"role": role, "content": content} for role, content in said], **more)


def test_every_answer_is_a_row_with_what_was_said_before_as_history() -> None:
    talk = thread(
        ("system", "Be kind."),
        ("user", "Hi\r\n"),
        ("assistant", "Hello."),
        ("user", "Rent?"),
        ("assistant", "900 [1]"),
        passages=("The rent is 900.",),
    )
    assert rows_of(talk, "a.jsonl#line 1", recipe()) == [
        SftRow(question="Hi", passages=("The rent is 900.",), answer="Hello.", source="a.jsonl#line 1"),
        SftRow(
            question="Rent?",
            history=(Message(role="user", content="Hi"), Message(role="assistant", content="Hello.")),
            passages=("The rent is 900.",),
            answer="900 [1]",
            source="a.jsonl#line 1",
        ),
    ]


def test_a_messages_own_passages_go_before_the_conversations() -> None:
    talk = Thread(
        messages=[{"role": "user", "content": "q", "passages": ["mine"]}, {"role": "assistant", "content": "a"}],
        passages=("all",),
    )
    (row,) = rows_of(talk, "s", recipe())
    assert isinstance(row, SftRow)
    assert row.passages == ("mine",)


@pytest.mark.parametrize(
    ("talk", "changes", "reason"),
    [
        (thread(("user", "q"), ("tool", "x"), ("assistant", "a")), {}, "unknown_role"),
        (thread(("user", "q"), ("assistant", "a"), agent="linux"), {}, "other_agent"),
        (thread(("user", "q"), ("assistant", "a"), category="rent"), {"categories": ("keys",)}, "other_category"),
        (thread(("user", "q"), ("assistant", "a")), {"categories": ("keys",)}, "other_category"),
        (thread(("user", "q"), ("assistant", "a"), quality=0.4), {"min_quality": 0.5}, "low_quality"),
        (thread(("user", "q"), ("assistant", "a")), {"min_quality": 0.5}, "no_quality"),
        (thread(("user", "q")), {}, "no_answer"),
        (thread(("assistant", "a")), {}, "no_answer"),
        (thread(("user", "q"), ("assistant", " \n\x00")), {}, "no_answer"),
        (thread(("user", "q"), ("assistant", "a")), {"kind": "dpo"}, "no_rejected"),
        (thread(("user", "q"), ("assistant", "a"), rejected=" a "), {"kind": "dpo"}, "chosen_is_rejected"),
        (thread(("user", "q")), {"kind": "router"}, "no_agent"),
        (thread(("assistant", "a"), agent="linux"), {"kind": "router"}, "no_question"),
    ],
)
def test_what_gives_no_row_says_why(talk: Thread, changes: dict[str, Any], reason: str) -> None:
    assert rows_of(talk, "s", recipe(**changes)) == Dropped(source="s", reason=reason)


def test_messages_of_one_role_in_a_row_are_one_and_the_context_stays_whole() -> None:
    talk = Thread(
        messages=[
            {"role": "user", "content": "Hi.", "passages": ["one"]},
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Rent? ", "passages": ["two\r\n", " "]},
            {"role": "assistant", "content": "Which flat?"},
            {"role": "assistant", "content": "Please say."},
            {"role": "user", "content": "4B"},
            {"role": "assistant", "content": "900"},
        ]
    )
    first, second = rows_of(talk, "s", recipe())
    assert isinstance(first, SftRow)
    assert isinstance(second, SftRow)
    assert (first.question, first.answer, first.passages) == ("Hi.\nRent?", "Which flat?\nPlease say.", ("one", "two"))
    assert [message.content for message in second.history] == ["Hi.\nRent?", "Which flat?\nPlease say."]


@pytest.mark.parametrize(
    ("started", "since", "until", "reason"),
    [
        ("2026-03-01T23:30:00-01:00", "2026-03-02", "2026-03-02", ""),
        ("2026-03-01T12:00:00", "2026-03-01", None, ""),
        ("2026-02-28T12:00:00", "2026-03-01", None, "before_since"),
        ("2026-03-03T00:00:00Z", None, "2026-03-02", "after_until"),
        (None, "2026-03-01", None, "no_date"),
        (None, None, None, ""),
    ],
)
def test_days_in_utc_are_filtered(files: Any, started: str | None, since: str | None, until: str | None, reason: str) -> None:
    talk = {"question": "q", "answer": "a", **({"created_at": started} if started else {})}
    path = files.raw("a.jsonl", json.dumps(talk))
    (row,) = read_threads({"path": str(path), "source": path.name, "bytes": 0}, recipe(since=since, until=until))
    assert (json.loads(row["body"])["reason"] if row["refusal"] else "") == reason


def test_a_computed_score_is_used_only_where_none_is_given(files: Any) -> None:
    talks = [
        {"question": "When is the office open?", "answer": "From nine to five."},
        {"question": "When is the office open?", "answer": "I'm sorry, I do not know."},
        {"question": "When is the office open?", "answer": "I'm sorry, I do not know.", "quality": 0.8},
    ]
    row = {"path": str(files.raw("a.jsonl", "\n".join(map(json.dumps, talks)))), "source": "a.jsonl", "bytes": 0}
    scored = list(read_threads(row, recipe(min_quality=0.5)))
    assert [(one["refusal"], one["score"], one["reasons"]) for one in scored] == [
        ("", 0.9, ""),
        ("dropped", 0.4, "refused"),
        ("", -1.0, ""),
    ]
    assert [one["refusal"] for one in read_threads(row, recipe(min_quality=0.5, score_missing=False))] == [
        "dropped",
        "dropped",
        "",
    ]


def test_categories_are_found_by_example_before_they_are_filtered(files: Any) -> None:
    talks = [
        {"question": "I lost the key of my flat.", "answer": "a"},
        {"question": "Where do I pay the rent?", "answer": "b"},
        {"question": "How tall is the moon?", "answer": "c"},
        {"question": "I lost my key as well.", "answer": "d", "category": "other"},
    ]
    row = {"path": str(files.raw("a.jsonl", "\n".join(map(json.dumps, talks)))), "source": "a.jsonl", "bytes": 0}
    examples = {"keys": ("My key is gone.", "The door lock is stuck."), "rent": ("How much is the rent?", "I want to pay rent.")}
    found = list(read_threads(row, recipe(categories_by_example=examples, categories=("keys",))))
    assert [(one["category"], one["refusal"]) for one in found] == [
        ("keys", ""),
        ("rent", "dropped"),
        ("", "dropped"),
        ("other", "dropped"),
    ]
    assert [one["near"] >= 0.35 for one in found] == [True, True, False, False]


def test_a_recipe_that_can_keep_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="category 'a' of categories_by_example has no example"):
        recipe(categories_by_example={"a": [" "]})
    with pytest.raises(ValidationError, match="since 2026-03-02 is after until 2026-03-01"):
        recipe(since="2026-03-02", until="2026-03-01")


def test_preferences_take_the_last_answer_as_chosen() -> None:
    talk = thread(("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "good"), rejected="bad")
    (row,) = rows_of(talk, "s", recipe(kind="dpo"))
    assert isinstance(row, DpoRow)
    assert (row.question, row.chosen, row.rejected, len(row.history)) == ("q2", "good", "bad", 2)


def test_routing_rows_keep_out_of_scope() -> None:
    assert rows_of(thread(("user", "sing"), agent=None), "s", recipe(kind="router")) == [
        RouterRow(text="sing", agent=None, source="s")
    ]
    assert rows_of(thread(("user", "ls?"), agent="linux"), "s", recipe(kind="router")) == [
        RouterRow(text="ls?", agent="linux", source="s")
    ]


def test_bad_lines_are_set_aside_and_good_ones_go_on(files: Any) -> None:
    good = json.dumps({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "extra": 1})
    lines = [
        b"\xef\xbb\xbf" + good.encode(),
        b"",
        b"{torn",
        b"[]",
        b'{"messages": []}',
        b'{"messages": [{"role": "user"}]}',
        b"\xff\xfe",
        good.encode(),
    ]
    path = files.raw("talks.jsonl", b"\n".join(lines))
    rows = list(read_threads({"path": str(path), "source": path.name, "bytes": 0}, recipe()))
    assert [(row["line"], row["refusal"]) for row in rows] == [
        (1, ""), (3, "quarantined"), (4, "quarantined"), (5, "quarantined"), (6, "quarantined"), (7, "quarantined"), (8, ""),
    ]  # fmt: skip
    assert "talks.jsonl#line 6: messages.0.content cannot be used" in rows[4]["body"]


def test_another_format_is_set_aside(files: Any) -> None:
    path = files.raw("talks.csv", "a,b")
    (row,) = read_threads({"path": str(path), "source": path.name, "bytes": 0}, recipe())
    assert '"reason":"unknown_format"' in row["body"]
