"""Chats and instructions as readable documents: OpenAI's messages, ShareGPT's conversations, Alpaca's instructions.

For reading and retrieval; the rows that agents learn from are made by ``data_jobs.conversations``.
"""

import json
from collections.abc import Mapping
from typing import Any

from data_jobs.extract.part import Part

_LISTS = ("messages", "conversations", "conversation", "utterances", "turns", "dialogue", "dialog")
_ROLE = ("role", "from", "speaker", "author")
_SAID = ("content", "value", "text")
_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant"}
_TITLE_LENGTH = 80


def is_turn(value: Any) -> bool:
    """Whether this is somebody saying something: a role and a text, under any of their usual names."""
    return isinstance(value, Mapping) and _role(value) is not None and (_said(value) is not None or "tool_calls" in value)


def as_chat(record: Mapping[str, Any], name: str) -> Part | None:
    """The transcript, a paragraph a turn with the role before it; None when the record is no chat."""
    key = _key_of_turns(record)
    if key is None:
        return _as_instruction(record, name)
    turns = [(_role(turn) or "", (_said(turn) or "") + _calls(turn)) for turn in record[key]]
    turns = [(role, said.strip()) for role, said in turns if said.strip()]
    asked = next((said for role, said in turns if role == "user"), turns[0][1] if turns else "")
    given = record.get("title")
    meta = {str(other): value for other, value in record.items() if other not in (key, "title")} | {"turns": len(turns)}
    title = given if isinstance(given, str) and given.strip() else _first_line(asked)
    return Part(text="\n\n".join(f"{role}: {said}" for role, said in turns), title=title, name=name, meta=meta)


def _key_of_turns(record: Mapping[str, Any]) -> str | None:
    for key in _LISTS:
        turns = record.get(key)
        if isinstance(turns, list) and turns and all(is_turn(turn) for turn in turns):
            return key
    return None


def _as_instruction(record: Mapping[str, Any], name: str) -> Part | None:
    fields = [record.get(key) for key in ("instruction", "input", "output")]
    if not isinstance(fields[0], str) or not isinstance(fields[2], str) or not isinstance(fields[1], str | None):
        return None
    said = zip(("Instruction", "Input", "Output"), fields, strict=True)
    text = "\n\n".join(f"{label}: {value.strip()}" for label, value in said if value and value.strip())
    meta = {str(key): value for key, value in record.items() if key not in ("instruction", "input", "output")}
    return Part(text=text, title=_first_line(fields[0]), name=name, meta=meta)


def _role(turn: Mapping[str, Any]) -> str | None:
    for key in _ROLE:
        role = turn.get(key)
        if isinstance(role, Mapping):
            role = role.get("role")
        if isinstance(role, str) and role.strip():
            return _ROLES.get(role.strip().lower(), role.strip())
    return None


def _said(turn: Mapping[str, Any]) -> str | None:
    for key in _SAID:
        said = turn.get(key)
        if isinstance(said, str):
            return said
        if isinstance(said, list) and all(isinstance(piece, Mapping) for piece in said):
            texts = (piece.get("text", f"[{piece.get('type', 'attachment')}]") for piece in said)
            return "\n".join(text if isinstance(text, str) else "" for text in texts)
    return None


def _calls(turn: Mapping[str, Any]) -> str:
    calls = turn.get("tool_calls")
    made = [call.get("function") for call in calls if isinstance(call, Mapping)] if isinstance(calls, list) else []
    told = (f"\n[calls {call.get('name')} {_arguments(call.get('arguments'))}]" for call in made if isinstance(call, Mapping))
    return "".join(told)


def _arguments(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _first_line(text: str) -> str:
    line = text.strip().partition("\n")[0].strip()
    return line if len(line) <= _TITLE_LENGTH else line[: _TITLE_LENGTH - 1].rstrip() + "…"
