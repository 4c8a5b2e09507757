"""Records in the forms people export."""

from datetime import UTC, datetime
from typing import Any

import pytest

from cluster.domain.data_recipes import ConversationsRecipe
from data_jobs.chat_formats import LogMessage, Thread, Unusable, moment, named, parsed


def recipe(**changes: Any) -> ConversationsRecipe:
    return ConversationsRecipe(**{"paths": ("x",), "dataset": "d", "agent": "property", **changes})


def said(value: Any, **changes: Any) -> list[tuple[str, str]]:
    thread = parsed(value, 1, recipe(**changes))
    assert isinstance(thread, Thread)
    return [(message.role, message.content) for message in thread.messages]


PAIR = [("user", "q"), ("assistant", "a")]


@pytest.mark.parametrize(
    "value",
    [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        {"messages": [{"role": "user", "content": [{"text": "q"}, {"type": "image_url"}]}, {"role": "model", "content": "a"}]},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"utterances": [{"index": 0, "speaker": "USER", "text": "q"}, {"speaker": "ASSISTANT", "text": "a"}]},
        {"Dialogue": [{"Speaker": "customer", "Utterance": "q"}, {"Speaker": "agent", "Utterance": "a"}]},
        {"instruction": "q", "input": "", "output": "a"},
        {"question": "q", "answer": "a"},
        {"prompt": "q", "completion": "a"},
        {"user": "q", "assistant": "a"},
    ],
)  # fmt: skip
def test_every_form_is_the_same_conversation(value: dict[str, Any]) -> None:
    assert said(value) == PAIR


def test_an_alpaca_input_belongs_to_its_instruction_and_a_system_prompt_goes_first() -> None:
    value = {"instruction": "Sum up.", "input": "A text.", "output": "a", "system": "Be kind."}
    assert said(value) == [("system", "Be kind."), ("user", "Sum up.\n\nA text."), ("assistant", "a")]


def test_what_a_tool_gave_is_a_passage_of_the_question() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    gave, said_ = {"role": "tool", "content": "12 C"}, {"role": "assistant", "content": "a"}
    value = {"messages": [{"role": "user", "content": "q"}, call, gave, said_]}
    thread = parsed(value, 1, recipe())
    assert isinstance(thread, Thread)
    assert said(value) == PAIR
    assert thread.messages[0].passages == ("12 C",)
    turns = [{"from": "human", "value": "q"}, {"from": "function_call", "value": "{}"}, {"from": "observation", "value": "x"}]
    assert said({"conversations": turns}) == [("user", "q")]


def test_a_conversations_own_keys_come_along() -> None:
    more = {"agent": None, "category": "", "quality": "0.5", "passages": "one", "rejected": "b", "created_at": "2026-03-01"}
    thread = parsed({"question": "q", "chosen": "a", **more}, 1, recipe())
    assert isinstance(thread, Thread)
    assert (thread.category, thread.quality, thread.passages, thread.rejected) == (None, 0.5, ("one",), "b")
    assert thread.created_at == datetime(2026, 3, 1, tzinfo=UTC)
    assert "agent" in thread.model_fields_set
    bare = parsed({"question": "q", "answer": "a"}, 1, recipe())
    assert "agent" not in bare.model_fields_set


def test_a_log_message_keeps_its_ids_and_its_time() -> None:
    value = {
        "Message-ID": 7,
        "In Reply To": 3,
        "channel": "c",
        "Author": "Desk",
        "Body": "hi",
        "Date": "Sun, 01 Mar 2026 09:00:00 +0100",
    }
    message = parsed(value, 4, recipe(assistant_authors=("Desk",)))
    assert message == LogMessage(
        line=4,
        said={"role": "assistant", "content": "hi"},
        identity="7",
        parent="3",
        channel="c",
        time=datetime(2026, 3, 1, 8, tzinfo=UTC),
    )
    with pytest.raises(Unusable, match="time 'tomorrow' cannot be read"):
        parsed({**value, "Date": "tomorrow"}, 4, recipe())


def test_authors_are_roles_only_when_they_are_named() -> None:
    value = {"messages": [{"author": "Kim", "text": "q"}, {"author": "Desk", "text": "a"}]}
    assert said(value) == [("Kim", "q"), ("Desk", "a")]
    assert said(value, assistant_authors=("Desk",)) == PAIR


def test_own_names_go_before_usual_ones() -> None:
    value = {"text": "subject", "Full Text": "q", "Kind": "human", "name": "x", "answer": "never"}
    message = parsed(value, 1, recipe(fields={"text": "full text", "role": "kind"}))
    assert isinstance(message, LogMessage)
    assert (message.said.role, message.said.content) == ("user", "q")
    assert named({"A b": 1, "text": 2}, {"content": "a-b"}) == {"content": 1, "a_b": 1}


@pytest.mark.parametrize(
    ("value", "reason", "why"),
    [
        ([1], "corrupt", "it is a list"),
        (None, "corrupt", "it is a NoneType"),
        ({"messages": []}, "corrupt", "messages cannot be used"),
        ({"messages": [{"role": "user", "content": 5}]}, "corrupt", r"messages.0.content cannot be used"),
        ({"messages": ["q"]}, "corrupt", "messages.0 cannot be used"),
        ({"question": "q", "answer": {"text": "a"}}, "corrupt", "messages.1.content"),
        ({"question": "q", "answer": "a", "quality": "good"}, "corrupt", "quality cannot be used"),
        ({"question": "q", "answer": "a", "quality": float("nan")}, "corrupt", "quality cannot be used"),
        ({"foo": 1, "bar": 2}, "unknown_format", r"its keys \(foo, bar\) are those of no known form"),
    ],
)
def test_what_is_no_conversation_says_why(value: Any, reason: str, why: str) -> None:
    with pytest.raises(Unusable, match=why) as caught:
        parsed(value, 1, recipe())
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "value", ["2026-03-01T10:00:00+01:00", 1772355600, "1772355600.000", 1772355600000, "2026-03-01 09:00:00"]
)
def test_times_are_one_moment(value: Any) -> None:
    assert moment(value) == datetime(2026, 3, 1, 9, tzinfo=UTC)


@pytest.mark.parametrize("value", ["", None, "soon", "13/13/2026", float("inf"), []])
def test_what_is_no_time_is_none(value: Any) -> None:
    assert moment(value) is None
