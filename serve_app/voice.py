"""Calls: which conversation a call is, who signed a report of one, and the turns that its transcript holds."""

import hashlib
import hmac
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from cluster.domain.agents import Agent
from cluster.domain.base import now
from cluster.domain.conversations import Message, Route, Turn
from cluster.errors import Unauthenticated
from serve_app.validator import validate

WINDOW_S = 300
"""A signature older than this, or from a clock that is ahead by more, is refused: who overhears a report cannot send it again later."""


class Said(NamedTuple):
    """A stretch of a transcript."""

    by_caller: bool
    text: str


def conversation_of(call: str) -> str:
    """The conversation of a call, the same in every replica and in the report that ends it."""
    return f"conv_{hashlib.sha256(f'call:{call}'.encode()).hexdigest()[:20]}"


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """The header of a report: ``t=<seconds since 1970>,v1=<HMAC-SHA256 of "t.body", hex>``."""
    mac = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"t={timestamp},v1={mac.hexdigest()}"


def check_signature(secret: str, header: str | None, body: bytes, at: float) -> None:
    """Raises Unauthenticated unless the body was signed with the secret within the last five minutes."""
    fields = dict(part.split("=", 1) for part in (header or "").split(",") if "=" in part)
    stamp = fields.get("t", "")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 13):
        raise Unauthenticated("The report is not signed; send 'X-Treadle-Signature: t=SECONDS,v1=HMAC' (see API.md).")
    if not hmac.compare_digest(sign(secret, int(stamp), body).encode(), f"t={stamp},v1={fields.get('v1', '')}".encode()):
        raise Unauthenticated("The report's signature does not fit its body; sign 't.body' with router.voice_secret.")
    if abs(at - int(stamp)) > WINDOW_S:
        raise Unauthenticated(f"The report was signed at {stamp}, more than {WINDOW_S} s from now; sign it when it is sent.")


def pairs(said: Sequence[Said]) -> list[tuple[tuple[Message, ...], str, str]]:
    """``(history, question, answer)`` of every question that was answered; stretches of one speaker are joined."""
    joined: list[Said] = []
    for one in said:
        text = " ".join(one.text.split())
        if text and joined and joined[-1].by_caller == one.by_caller:
            joined[-1] = Said(one.by_caller, f"{joined[-1].text} {text}")
        elif text:
            joined.append(Said(one.by_caller, text))
    messages = tuple(Message(role="user" if one.by_caller else "assistant", content=one.text) for one in joined)
    return [
        (messages[:number], messages[number].content, messages[number + 1].content)
        for number in range(len(messages) - 1)
        if messages[number].role == "user"
    ]


def turns_of(
    call: str, user: str, card: Agent, said: Sequence[Said], metadata: dict[str, str], known: Sequence[Turn]
) -> list[Turn]:
    """The turns of a transcript that are not ``known`` yet. A report that comes twice gives the same ids."""
    answered = {(turn.question, turn.answer) for turn in known}
    start = now()
    made = []
    for number, (history, question, answer) in enumerate(pairs(said)):
        if (question, answer) in answered:
            continue
        mark = hashlib.sha256(f"{call}:{number}:{question}".encode()).hexdigest()[:20]
        made.append(
            Turn(
                id=f"turn_{mark}",
                conversation_id=conversation_of(call),
                user=user,
                question=question,
                history=history,
                answer=answer,
                agent=card.name,
                release=None,
                route=Route(agent=card.name),
                validation=validate(card, answer, ()),
                metadata=metadata,
                created_at=start + timedelta(milliseconds=number),
            )
        )
    return made
