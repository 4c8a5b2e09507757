"""Conversations of a file to dataset rows, or why not. What Ray Data's workers run; the driver is ``data_jobs.conversations``."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from cluster.domain.conversations import Message
from cluster.domain.data_recipes import ConversationsRecipe, WashRecipe
from cluster.domain.datasets import DpoRow, RouterRow, Row, SftRow
from cluster.domain.documents import Dropped, Quarantined
from cluster.embedding import DEFAULT
from data_jobs.categories import Categories
from data_jobs.chat_files import Place, conversations
from data_jobs.chat_formats import Said, Thread, Unusable
from data_jobs.conversation_quality import Score, quality
from data_jobs.index import opened
from data_jobs.masking import masked
from data_jobs.on_ray import Row as RayRow
from data_jobs.wash import washed

__all__ = ["Said", "Thread", "read_threads", "rows_of"]

_ROLES = ("system", "user", "assistant")
_AT_ONCE = 256
_LIST: TypeAdapter[list[Row]] = TypeAdapter(list[Row])


def read_threads(row: RayRow, recipe: ConversationsRecipe, embedder: str = DEFAULT) -> Iterator[RayRow]:
    """Ray Data's step: a file to one row for each of its conversations, converted or refused."""
    name = row["source"]
    places = conversations(Path(row["path"]), recipe)
    try:
        while several := list(islice(places, _AT_ONCE)):
            yield from (_converted(place, name, recipe) for place in _categorised(several, recipe, embedder))
    except Unusable as error:
        yield _refused(Quarantined(source=name, reason=error.reason, detail=f"{name}: {error.why}."), name, 0)
    except OSError as error:
        detail = f"{name}: it cannot be read ({error.strerror}); check its permissions."
        yield _refused(Quarantined(source=name, reason="unreadable", detail=detail), name, 0)


@cache
def _categories(examples: tuple[tuple[str, tuple[str, ...]], ...], threshold: float, embedder: str) -> Categories:
    return Categories(dict(examples), threshold, opened(embedder, bulk=False))


def _categorised(places: Sequence[Place], recipe: ConversationsRecipe, embedder: str) -> Iterable[Place]:
    """The places with a category for each conversation that had none and is near enough to the recipe's examples."""
    without = [
        (at, text)
        for at, (_, _, one) in enumerate(places)
        if isinstance(one, Thread) and one.category is None and (text := _asked(one))
    ]
    if not recipe.categories_by_example or not without:
        return places
    categories = _categories(tuple(sorted(recipe.categories_by_example.items())), recipe.category_threshold, embedder)
    out = list(places)
    for (at, _), found in zip(without, categories.of([text for _, text in without]), strict=True):
        number, unit, thread = out[at]
        assert isinstance(thread, Thread)
        out[at] = (number, unit, thread.model_copy(update={"category": found.name, "category_score": found.score}))
    return out


def _asked(thread: Thread) -> str:
    """What a conversation is about is what its user says."""
    return "\n".join(message.content for message in thread.messages if message.role == "user").strip()


def _converted(place: Place, name: str, recipe: ConversationsRecipe) -> RayRow:
    number, unit, thread = place
    source = f"{name}#{unit} {number}"
    if isinstance(thread, Unusable):
        detail = f"{source}: {thread.why}; correct or remove it."
        return _refused(Quarantined(source=source, reason=thread.reason, detail=detail), name, number)
    score = scored(thread, recipe)
    made = rows_of(thread, source, recipe, score)
    row = _refused(made, name, number) if isinstance(made, Dropped) else _row(name, number, rows=_LIST.dump_json(made).decode())
    near = -1.0 if thread.category_score is None else thread.category_score
    told = {"score": score.value, "reasons": " ".join(score.reasons)} if score else {}
    return row | {"category": thread.category or "", "near": near, **told}


def _refused(outcome: Dropped | Quarantined, name: str, line: int) -> RayRow:
    return _row(name, line, refusal=type(outcome).__name__.lower(), body=outcome.model_dump_json())


def _row(name: str, line: int, refusal: str = "", body: str = "", rows: str = "") -> RayRow:
    told = {"category": "", "near": -1.0, "score": -1.0, "reasons": ""}
    return {"source": name, "line": line, "refusal": refusal, "body": body, "rows": rows, **told}


def scored(thread: Thread, recipe: ConversationsRecipe) -> Score | None:
    """The computed quality of a conversation that has none; None where it has one, or the recipe does not want it."""
    if thread.quality is not None or not recipe.score_missing:
        return None
    return quality(_joined(message for message in thread.messages if message.role != "system" and message.content.strip()))


def rows_of(thread: Thread, source: str, recipe: ConversationsRecipe, score: Score | None = None) -> list[Row] | Dropped:
    """The conversation's rows (at least one), or the reason it gives none."""
    reason = _filtered(thread, recipe, score)
    if reason:
        return Dropped(source=source, reason=reason)
    thread = _clean(thread, recipe.wash)
    said = _joined(message for message in thread.messages if message.content and message.role != "system")
    if recipe.kind == "router":
        return _router(thread, said, source)
    made = _answers(said, thread, source)
    if not made:
        return Dropped(source=source, reason="no_answer")
    if recipe.kind == "sft":
        return list(made)
    last, rejected = made[-1], thread.rejected or ""
    if not rejected:
        return Dropped(source=source, reason="no_rejected")
    if rejected == last.answer:
        return Dropped(source=source, reason="chosen_is_rejected")
    shared = last.model_dump(exclude={"kind", "answer"})
    return [DpoRow(**shared, chosen=last.answer, rejected=rejected)]


def _filtered(thread: Thread, recipe: ConversationsRecipe, score: Score | None) -> str:
    if any(message.role not in _ROLES for message in thread.messages):
        return "unknown_role"
    if recipe.kind != "router" and thread.agent not in (None, recipe.agent):
        return "other_agent"
    if recipe.categories and thread.category not in recipe.categories:
        return "other_category"
    return _out_of_time(thread, recipe) or _too_bad(thread, recipe, score)


def _out_of_time(thread: Thread, recipe: ConversationsRecipe) -> str:
    if recipe.since is None and recipe.until is None:
        return ""
    if thread.created_at is None:
        return "no_date"
    day = thread.created_at.date()
    if recipe.since is not None and day < recipe.since:
        return "before_since"
    return "after_until" if recipe.until is not None and day > recipe.until else ""


def _too_bad(thread: Thread, recipe: ConversationsRecipe, score: Score | None) -> str:
    if recipe.min_quality is None:
        return ""
    value = score.value if score else thread.quality
    if value is None:
        return "no_quality"
    return "low_quality" if value < recipe.min_quality else ""


def _washed(texts: Sequence[str], recipe: WashRecipe) -> list[str]:
    """All texts of one conversation, washed together, so that what is masked bears one mark throughout."""
    return masked([washed(text).strip() for text in texts], recipe)


def _clean(thread: Thread, recipe: WashRecipe) -> Thread:
    """The conversation with every text washed. Order: messages and their passages, the conversation's passages, the rejected answer."""
    texts = [text for message in thread.messages for text in (message.content, *message.passages)]
    clean = iter(_washed([*texts, *thread.passages, thread.rejected or ""], recipe))
    messages = tuple(
        Said(role=one.role, content=next(clean), passages=_next(clean, len(one.passages))) for one in thread.messages
    )
    passages = _next(clean, len(thread.passages))
    return thread.model_copy(update={"messages": messages, "passages": passages, "rejected": next(clean)})


def _next(texts: Iterator[str], count: int) -> tuple[str, ...]:
    """The next ``count`` texts without the empty ones."""
    return tuple(text for text in islice(texts, count) if text)


def _joined(messages: Iterable[Said]) -> list[Said]:
    """Consecutive messages of one role as one, a line feed between them. Without system messages: the agent's own prompt stands in
    their place."""
    said: list[Said] = []
    for message in messages:
        if said and said[-1].role == message.role:
            text, passages = f"{said[-1].content}\n{message.content}", said[-1].passages + message.passages
            said[-1] = Said(role=message.role, content=text, passages=passages)
        else:
            said.append(message)
    return said


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
