"""A question to be answered, whichever protocol it came in."""

from dataclasses import dataclass, field
from typing import Any

from cluster.domain.conversations import LastTurn, Message
from cluster.domain.readers import EVERY_USER
from cluster.domain.users import Person, Role
from serve_app.trial import Trial

AUTO = "auto"
SEEDS = 1 << 63
"""Seeds are below it, as torch takes them."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question. ``overrides`` are the generation settings that the client gave, ``extra`` those that cards do not know (see
    ``GenerationRequest``); ``messages`` end with the user's. ``user`` and ``role`` say which agents may answer, and from which documents;
    ``open_only``: only from those that every user may read. ``thread`` is the talk with its tool calls, where there are ``tools``.
    ``last`` is the conversation's last turn, known where ``model`` is auto; ``handover`` names the agent that the person wants from here
    on."""

    user: str
    model: str
    messages: tuple[Message, ...]
    role: Role = "user"
    conversation_id: str | None = None
    last: LastTurn | None = None
    handover: str | None = None
    retrieve: bool = True
    open_only: bool = False
    record: bool = True
    stream: bool = False
    seed: int | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] | None = None
    choices: int = 1
    tools: tuple[dict[str, Any], ...] = ()
    thread: tuple[dict[str, Any], ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    trial: Trial | None = None

    @property
    def reader(self) -> Person:
        """Whom passages are sought for."""
        return EVERY_USER if self.open_only else self

    @property
    def question(self) -> str:
        return self.messages[-1].content

    @property
    def history(self) -> tuple[Message, ...]:
        return tuple(message for message in self.messages[:-1] if message.role != "system")
