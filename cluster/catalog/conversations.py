"""Conversations and their turns."""

from typing import Sequence

from sqlalchemy import select

from cluster.catalog.tables import conversations, turns
from cluster.catalog.transaction import Work
from cluster.domain.conversations import Conversation, LastTurn, Route, Turn
from cluster.errors import NotFound


def record(work: Work, recorded: Sequence[Turn]) -> None:
    """Keep turns, and the conversations they open. Recording a turn twice keeps it once."""
    for turn in recorded:
        thread = Conversation(id=turn.conversation_id, user=turn.user, title=turn.question[:80], created_at=turn.created_at)
        body = thread.model_dump(mode="json")
        row = {"id": thread.id, "user": thread.user, "created_at": thread.created_at, "body": body}
        work.add_missing(conversations, row)
        row = {
            "id": turn.id,
            "conversation_id": turn.conversation_id,
            "user": turn.user,
            "agent": turn.agent,
            "release": turn.release,
            "created_at": turn.created_at,
            "body": turn.model_dump(mode="json"),
        }
        work.add_missing(turns, row)


def owner(work: Work, conversation_id: str) -> str | None:
    """Whose conversation this is; None when it does not exist yet."""
    row = work.run(select(conversations.c.user).where(conversations.c.id == conversation_id)).first()
    return None if row is None else str(row[0])


def standing(work: Work, conversation_id: str) -> tuple[str | None, LastTurn | None]:
    """Whose conversation this is, and its last turn, in one read."""
    newest = select(turns.c.id).where(turns.c.conversation_id == conversation_id).order_by(turns.c.created_at.desc()).limit(1)
    statement = (
        select(conversations.c.user, turns.c.agent, turns.c.body)
        .join_from(conversations, turns, turns.c.id == newest.scalar_subquery(), isouter=True)
        .where(conversations.c.id == conversation_id)
    )
    row = work.run(statement).first()
    if row is None:
        return None, None
    if row[2] is None:
        return str(row[0]), None
    return str(row[0]), LastTurn(agent=row[1], question=row[2]["question"], route=Route.model_validate(row[2]["route"]))


def turn(work: Work, turn_id: str, user: str | None = None) -> Turn:
    """One turn; with ``user``, only if it is theirs. Raises NotFound either way, so that ids tell nothing."""
    statement = select(turns.c.body).where(turns.c.id == turn_id)
    if user is not None:
        statement = statement.where(turns.c.user == user)
    found = work.body(Turn, statement)
    if found is None:
        raise NotFound(f"There is no turn '{turn_id}' of yours; the id stands in an answer's 'treadle.turn_id'.")
    return found


def turns_of(work: Work, ids: Sequence[str]) -> dict[str, Turn]:
    """The turns with these ids, by id."""
    found = work.bodies(Turn, select(turns.c.body).where(turns.c.id.in_(list(ids))))
    return {one.id: one for one in found}


def of_conversation(work: Work, conversation_id: str) -> list[Turn]:
    """A conversation's turns, the first one first."""
    return work.bodies(Turn, select(turns.c.body).where(turns.c.conversation_id == conversation_id).order_by(turns.c.created_at))


def recent(work: Work, user: str | None = None, limit: int = 100) -> list[Turn]:
    """The newest turns first."""
    statement = select(turns.c.body).order_by(turns.c.created_at.desc()).limit(limit)
    if user is not None:
        statement = statement.where(turns.c.user == user)
    return work.bodies(Turn, statement)
