"""One record of a conversation file, in the forms people export, as a Thread or as one message of a log.

messages     ``{"messages": [{"role", "content"}, …]}`` as OpenAI writes them; content may be parts; a tool's result is a passage
ShareGPT     ``{"conversations": [{"from", "value"}, …]}``
dialogues    ``{"utterances" | "dialog" | "dialogue" | "turns" | "conversation": [{"speaker", "text"}, …]}``
Alpaca       ``{"instruction", "input", "output"}``
pairs        ``{"question", "answer"}``, ``{"prompt", "response" | "completion" | "chosen", "rejected"}`` and the like
logs         ``{"role" | "author" | …, "text" | "content" | …}`` with ids and times, which ``data_jobs.message_logs`` threads

Keys are found in any case, with spaces or dashes for underscores. Who answers is not guessed: an author that is no role has to be
named in the recipe.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from cluster.domain.data_recipes import ConversationsRecipe

Record = Mapping[str, Any]
M = TypeVar("M", bound=BaseModel)

TURNS = ("messages", "conversations", "utterances", "dialog", "dialogue", "turns", "conversation")
ROLE = ("role", "from", "speaker", "author", "sender", "user", "username", "name")
TEXT = ("content", "text", "value", "message", "body", "utterance")
TIME = ("time", "timestamp", "created_at", "date", "datetime", "sent_at", "created", "ts")
THREAD = (
    "conversation_id",
    "thread_id",
    "thread_ts",
    "dialogue_id",
    "session_id",
    "chat_id",
    "ticket_id",
    "thread",
    "conversation",
)
PARENT = ("reply_to", "in_reply_to", "reply_to_message_id", "parent_id", "parent")
IDENTITY = ("message_id", "msg_id", "id", "ts")
CHANNEL = ("channel", "channel_id", "room", "group")
QUESTION = ("instruction", "question", "prompt", "query", "user")
ANSWER = ("output", "answer", "response", "completion", "chosen", "assistant")
_GROUPS = (ROLE, TEXT, TIME, THREAD, PARENT, IDENTITY, CHANNEL, QUESTION, ANSWER)
_KEPT = ("agent", "category", "quality", "passages", "rejected")
_ROLES = {
    **dict.fromkeys(("user", "human", "customer", "client", "visitor", "caller", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "agent", "model", "ai", "support"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "call"),
}
_TIME: TypeAdapter[datetime] = TypeAdapter(datetime)


class Said(BaseModel):
    """A message as files have it."""

    role: str
    content: str
    passages: tuple[str, ...] = ()


class Thread(BaseModel):
    """A conversation as files have it; keys that are not named here are left alone."""

    messages: tuple[Said, ...] = Field(min_length=1)
    agent: str | None = None
    category: str | None = None
    category_score: float | None = None
    quality: float | None = Field(default=None, allow_inf_nan=False)
    passages: tuple[str, ...] = ()
    rejected: str | None = None
    created_at: datetime | None = None


class LogMessage(BaseModel):
    """One message of a log, before threading. ``line`` is where it stands in its file; a record's own keys are in ``more``."""

    line: int
    said: Said
    identity: str = ""
    thread: str = ""
    parent: str = ""
    channel: str = ""
    time: datetime | None = None
    more: dict[str, Any] = Field(default_factory=dict)


class Unusable(Exception):
    """The record is no conversation. ``reason`` is the word that reports count by, ``why`` a clause of a sentence."""

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(reason, why)
        self.reason, self.why = reason, why


def parsed(value: Any, line: int, recipe: ConversationsRecipe) -> Thread | LogMessage:
    """The record as what it is. Raises Unusable."""
    if not isinstance(value, Mapping):
        raise Unusable("corrupt", f"it is a {type(value).__name__}, not a record with keys")
    record = named(value, recipe.fields)
    turns = next((record[key] for key in TURNS if isinstance(record.get(key), list)), None)
    if turns is not None:
        return _thread(list(_said(turns, recipe)), record)
    question, answer = _first(record, QUESTION), _first(record, ANSWER)
    if question is not None and answer is not None:
        return _pair(question, answer, record)
    if _first(record, ROLE) is not None and _first(record, TEXT) is not None:
        return _log_message(record, line, recipe)
    keys = ", ".join(str(key)[:30] for key in list(value)[:8]) or "none"
    raise Unusable("unknown_format", f"its keys ({keys}) are those of no known form; name them under 'fields' in the recipe")


def checked(kind: type[M], fields: Mapping[str, Any]) -> M:
    """The fields as a ``kind``. Raises Unusable naming the first that is wrong."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the record"
        raise Unusable("corrupt", f"{place} cannot be used ({first['msg'][:200]})") from None


def named(value: Record, fields: Mapping[str, str] = {}) -> dict[str, Any]:
    """The record with keys in lower case and underscores, and the recipe's own names for them."""
    record = {key_of(key): inner for key, inner in value.items()}
    mapped = {ours: record[key_of(theirs)] for ours, theirs in fields.items() if key_of(theirs) in record}
    shadowed = {key for group in _GROUPS if mapped.keys() & set(group) for key in group}
    return {key: inner for key, inner in record.items() if key not in shadowed} | mapped


def key_of(name: Any) -> str:
    """A key or column name as it is looked up."""
    return str(name).strip().lower().replace(" ", "_").replace("-", "_")


def role_of(author: Any, recipe: ConversationsRecipe) -> str:
    """The role of whoever wrote a message; an author that is neither a role nor named in the recipe stays as it is."""
    name = str(author).strip()
    if recipe.assistant_authors:
        if name in recipe.assistant_authors:
            return "assistant"
        return "user" if _ROLES.get(name.lower()) in (None, "user", "assistant") else _ROLES[name.lower()]
    return _ROLES.get(name.lower(), name)


def moment(value: Any) -> datetime | None:
    """A time as files have it (ISO 8601, seconds or milliseconds since 1970, a mail's date) in UTC; None where it is none of them."""
    if value is None or value == "":
        return None
    text = value.strip() if isinstance(value, str) else value
    try:
        found = _TIME.validate_python(float(text) if isinstance(text, str) and text.replace(".", "", 1).isdecimal() else text)
    except ValidationError:
        try:
            found = parsedate_to_datetime(str(text))
        except ValueError:
            return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _first(record: Record, keys: Iterable[str]) -> Any:
    """The first value that says something; an empty one where there is no better; None without any."""
    found = [record[key] for key in keys if record.get(key) is not None]
    return next((value for value in found if value != ""), found[0] if found else None)


def _text(value: Any) -> Any:
    """A message's text. Content in parts gives its text parts; what is neither text nor parts stays, to be refused by its type."""
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in value]
        return "\n".join(part for part in parts if isinstance(part, str))
    return value


def _said(turns: list[Any], recipe: ConversationsRecipe) -> Iterable[Any]:
    """The messages in order. What a tool gave is a passage for the question it was called for; calls themselves say nothing."""
    messages: list[Any] = []
    for turn in turns:
        if not isinstance(turn, Mapping):
            messages.append(turn)
            continue
        record = named(turn)
        role = role_of(_first(record, ROLE) or "", recipe)
        content = _text(_first(record, TEXT))
        if role == "call" or (content is None and (record.get("tool_calls") or record.get("function_call"))):
            continue
        if role == "tool":
            asked = next((one for one in reversed(messages) if isinstance(one, dict) and one["role"] == "user"), None)
            if asked is not None and isinstance(content, str) and content.strip():
                asked["passages"] = [*asked.get("passages", ()), content]
            continue
        message = {"role": role, "content": content, "passages": record.get("passages") or ()}
        messages.append(message if content is not None else {"role": role})
    return messages


def _thread(messages: list[Any], record: Record) -> Thread:
    return checked(Thread, {"messages": messages, "created_at": moment(_first(record, TIME)), **_kept(record)})


def _kept(record: Record) -> dict[str, Any]:
    """The record's keys that a Thread has too. Files of columns have neither null nor lists: an empty cell, a lone text."""
    found = {key: None if record[key] == "" else record[key] for key in _KEPT if key in record}
    passages = found.pop("passages", None)
    return found if passages is None else {**found, "passages": [passages] if isinstance(passages, str) else passages}


def _pair(question: Any, answer: Any, record: Record) -> Thread:
    asked, given, system = _text(question), record.get("input"), record.get("system")
    if isinstance(asked, str) and isinstance(given, str) and given.strip():
        asked = f"{asked}\n\n{given}"
    said = [{"role": "user", "content": asked}, {"role": "assistant", "content": _text(answer)}]
    return _thread([{"role": "system", "content": system}, *said] if isinstance(system, str) and system else said, record)


def _log_message(record: Record, line: int, recipe: ConversationsRecipe) -> LogMessage:
    said = {"role": role_of(_first(record, ROLE), recipe), "content": _text(_first(record, TEXT))}
    written = _first(record, TIME)
    time = moment(written)
    if time is None and written not in (None, ""):
        raise Unusable("corrupt", f"its time '{str(written)[:40]}' cannot be read; write it as 2026-01-31T09:30:00Z")
    identities = {"identity": IDENTITY, "thread": THREAD, "parent": PARENT, "channel": CHANNEL}
    found = {name: str(_first(record, keys) or "") for name, keys in identities.items()}
    more = {key: value for key, value in _kept(record).items() if value is not None}
    return checked(LogMessage, {"line": line, "said": said, "time": time, "more": more, **found})
