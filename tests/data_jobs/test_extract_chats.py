"""Chats of every common shape as transcripts; instructions as documents."""

from typing import Any

import pytest

from data_jobs.extract.chats import as_chat, is_turn
from data_jobs.extract.part import Part

QUESTION, ANSWER = "When is the bin emptied?", "On Tuesday."
TRANSCRIPT = f"user: {QUESTION}\n\nassistant: {ANSWER}"


def chat(record: dict[str, Any]) -> Part:
    part = as_chat(record, "item 1")
    assert part is not None
    return part


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]},
        {"conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER}]},
        {"utterances": [{"speaker": "user", "text": QUESTION}, {"speaker": "Assistant", "text": ANSWER}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
                {"author": {"role": "bot"}, "content": ANSWER},
            ]
        },
    ],
)
def test_every_shape_gives_the_same_transcript(record: dict[str, Any]) -> None:
    part = chat(record | {"id": "c7"})
    assert part.text.lower() == TRANSCRIPT.lower()
    assert (part.title, part.name, part.meta) == (QUESTION, "item 1", {"id": "c7", "turns": 2})


def test_pictures_and_calls_of_tools_are_mentioned_and_empty_turns_left_out() -> None:
    call = {"type": "function", "function": {"name": "bins", "arguments": '{"house": "Oak"}'}}
    turns = [
        {"role": "system", "content": ""},
        {"role": "user", "content": [{"type": "image_url", "image_url": {}}, {"type": "text", "text": "Which bin?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    part = chat({"title": "Bins", "messages": turns})
    assert part.title == "Bins"
    assert part.text == 'user: [image_url]\nWhich bin?\n\nassistant: [calls bins {"house": "Oak"}]'
    assert part.meta == {"turns": 2}


def test_a_long_first_question_is_cut_in_the_title() -> None:
    part = chat({"messages": [{"role": "user", "content": "word " * 40 + "\nmore"}]})
    assert len(part.title) <= 80
    assert part.title.endswith("…")


def test_instructions_are_read_with_and_without_input() -> None:
    part = chat({"instruction": "Translate.", "input": "Haus", "output": "house", "lang": "de"})
    assert (part.text, part.title, part.meta) == (
        "Instruction: Translate.\n\nInput: Haus\n\nOutput: house",
        "Translate.",
        {"lang": "de"},
    )
    assert chat({"instruction": "Say hi.", "input": "", "output": "hi"}).text == "Instruction: Say hi.\n\nOutput: hi"


@pytest.mark.parametrize(
    "record",
    [
        {"messages": []},
        {"messages": ["hello"]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"subject": "x", "text": "y"}]},
        {"turns": 4},
        {"instruction": "Push.", "input": 5, "output": "x"},
        {"instruction": "Push the button."},
    ],
)
def test_what_only_resembles_a_chat_is_none(record: dict[str, Any]) -> None:
    assert as_chat(record, "") is None


def test_a_turn_has_a_role_and_a_text() -> None:
    assert is_turn({"role": "user", "content": ""})
    assert not is_turn({"role": " ", "content": "x"})
    assert not is_turn("user: x")
