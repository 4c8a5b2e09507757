"""One conversation to rows, or to a reason. Plain functions, no Ray."""

import json
from typing import Any

import pytest

from cluster.domain.conversations import Message
from cluster.domain.datasets import DpoRow, RouterRow, SftRow
from cluster.domain.documents import Dropped
from cluster.domain.recipes import ConversationsRecipe
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
