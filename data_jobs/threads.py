"""One conversation of a file to dataset rows, or why not. What Ray Data's workers run; the driver is ``data_jobs.conversations``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from cluster.domain.conversations import Message
from cluster.domain.datasets import DpoRow, RouterRow, Row, SftRow
from cluster.domain.documents import Dropped, Quarantined
from cluster.domain.recipes import ConversationsRecipe
from data_jobs.on_ray import Row as RayRow
from data_jobs.wash import washed

_ROLES = ("system", "user", "assistant")
_ENDINGS = (".jsonl", ".ndjson")


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
    quality: float | None = None
    passages: tuple[str, ...] = ()
    rejected: str | None = None


_LIST: TypeAdapter[list[Row]] = TypeAdapter(list[Row])


def read_threads(row: RayRow, recipe: ConversationsRecipe) -> Iterator[RayRow]:
    """Ray Data's step: a file to one row for each of its conversations, converted or refused. Reads line by line."""
    path, name = Path(row["path"]), row["source"]
    if path.suffix.lower() not in _ENDINGS:
        detail = f"{name}: conversations are read from JSON lines; convert it and end its name in .jsonl."
        yield _refused(Quarantined(source=name, reason="unknown_format", detail=detail), name, 0)
        return
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if text.strip():
                    yield _converted(text, name, number, recipe)
    except OSError as error:
        detail = f"{name}: it cannot be read ({error.strerror}); check its permissions."
        yield _refused(Quarantined(source=name, reason="unreadable", detail=detail), name, 0)


def _converted(line: bytes, name: str, number: int, recipe: ConversationsRecipe) -> RayRow:
    source = f"{name}#line {number}"
    try:
        thread = Thread.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the line"
        detail = f"{source}: {place} cannot be used ({first['msg'][:200]}); correct or remove the line."
        return _refused(Quarantined(source=source, reason="corrupt", detail=detail), name, number)
    made = rows_of(thread, source, recipe)
    if isinstance(made, Dropped):
        return _refused(made, name, number)
    return {"source": name, "line": number, "refusal": "", "body": "", "rows": _LIST.dump_json(made).decode()}


def _refused(outcome: Dropped | Quarantined, name: str, line: int) -> RayRow:
    return {
        "source": name,
        "line": line,
        "refusal": type(outcome).__name__.lower(),
        "body": outcome.model_dump_json(),
        "rows": "",
    }


def rows_of(thread: Thread, source: str, recipe: ConversationsRecipe) -> list[Row] | Dropped:
    """The conversation's rows (at least one), or the reason it gives none."""
    reason = _filtered(thread, recipe)
    if reason:
        return Dropped(source=source, reason=reason)
    said = _washed(thread)
    if recipe.kind == "router":
        return _router(thread, said, source)
    made = _answers(said, thread, source)
    if not made:
        return Dropped(source=source, reason="no_answer")
    if recipe.kind == "sft":
        return list(made)
    last, rejected = made[-1], washed(thread.rejected or "").strip()
    if not rejected:
        return Dropped(source=source, reason="no_rejected")
    if rejected == last.answer:
        return Dropped(source=source, reason="chosen_is_rejected")
    shared = last.model_dump(exclude={"kind", "answer"})
    return [DpoRow(**shared, chosen=last.answer, rejected=rejected)]


def _filtered(thread: Thread, recipe: ConversationsRecipe) -> str:
    if any(message.role not in _ROLES for message in thread.messages):
        return "unknown_role"
    if recipe.kind != "router" and thread.agent not in (None, recipe.agent):
        return "other_agent"
    if recipe.categories and thread.category not in recipe.categories:
        return "other_category"
    if recipe.min_quality is not None and thread.quality is None:
        return "no_quality"
    if recipe.min_quality is not None and (thread.quality or 0.0) < recipe.min_quality:
        return "low_quality"
    return ""


def _washed(thread: Thread) -> list[Said]:
    """The messages that say something, washed. System messages go: the agent's own prompt stands in their place."""
    said = [message.model_copy(update={"content": washed(message.content).strip()}) for message in thread.messages]
    return [message for message in said if message.content and message.role != "system"]


def _answers(said: list[Said], thread: Thread, source: str) -> list[SftRow]:
    rows = []
    for place, message in enumerate(said):
        before = said[place - 1] if place else None
        if message.role != "assistant" or before is None or before.role != "user":
            continue
        history = tuple(Message(role=_role(one), content=one.content) for one in said[: place - 1])
        passages = before.passages or thread.passages
        rows.append(SftRow(question=before.content, history=history, passages=passages, answer=message.content, source=source))
    return rows


def _role(message: Said) -> Any:
    return message.role


def _router(thread: Thread, said: list[Said], source: str) -> list[Row] | Dropped:
    if "agent" not in thread.model_fields_set:
        return Dropped(source=source, reason="no_agent")
    first = next((message for message in said if message.role == "user"), None)
    if first is None:
        return Dropped(source=source, reason="no_question")
    return [RouterRow(text=first.content, agent=thread.agent, source=source)]
