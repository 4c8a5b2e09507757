"""An answer that broke its agent's rules is asked for once more, with the reasons, and the better of the two is kept.

Only where the card says so (``correct``): it costs a second generation. Only of whole answers of one choice: what was streamed is out.
The same happens offline, because evaluation asks this application.
"""

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple

from cluster.domain.agents import Agent
from cluster.domain.conversations import Correction, Message
from cluster.domain.response_parsing import ResponseParser
from cluster.domain.validation import Validation
from cluster.errors import TreadleError
from serve_app.ask import Ask
from serve_app.choices import Choice
from serve_app.engine import Delta
from serve_app.response_parsing import cleaned

log = logging.getLogger(__name__)
ASKS = (
    "Your answer breaks these rules:\n{reasons}\nWrite the answer once more so that it keeps all of them. Write the answer alone."
)
Write = Callable[[list[Message]], tuple[AsyncIterator[Delta], int]]
"""Messages to a generation and the number of the prompt's tokens. Raises TreadleError."""


def corrects(card: Agent, ask: Ask) -> bool:
    """Whether a broken rule is a reason to ask again."""
    plain = ask.choices == 1 and not ask.thread and not ask.tools and "logprobs" not in (ask.extra or {})
    return card.correct and plain and not ask.stream


class Second(NamedTuple):
    """What came of asking again. ``text``, ``validation`` and ``finish_reason`` are of the second answer where it was kept."""

    correction: Correction
    validation: Validation
    text: str
    finish_reason: str | None
    parser: ResponseParser | None
    tokens: tuple[int, int]
    seconds: float


class Corrector:
    """``write`` asks the same adapter, ``judge`` says what rules say of a text, ``shown`` what the guard leaves of one."""

    def __init__(
        self,
        messages: Sequence[Message],
        write: Write,
        parser: Callable[[], ResponseParser | None],
        judge: Callable[[str, ResponseParser | None], Awaitable[Validation]],
        shown: Callable[[str], str],
    ) -> None:
        self._messages, self._write, self._parser, self._judge, self._shown = list(messages), write, parser, judge, shown

    async def correct(self, first: str, found: Validation) -> Second | None:
        """Asks once more. None when there was no second answer: the prompt grew too long, or the engine cannot answer now."""
        start = time.perf_counter()
        reasons = "\n".join(f"- {reason}" for reason in found.reasons)
        asked = [Message(role="assistant", content=first), Message(role="user", content=ASKS.format(reasons=reasons))]
        parser, choice = self._parser(), Choice()
        try:
            deltas, prompt = self._write([*self._messages, *asked])
            async with contextlib.aclosing(deltas if parser is None else cleaned(deltas, parser)) as pieces:  # type: ignore[type-var]
                async for delta in pieces:
                    choice.take(delta)
        except TreadleError as error:
            log.info("an answer was not corrected: %s", error.message)
            return None
        second = await self._judge(choice.text, parser)
        # The guard reads only what would be shown; an answer that it would change is no better one.
        kept = (
            bool(choice.text.strip()) and len(second.failures) < len(found.failures) and self._shown(choice.text) == choice.text
        )
        made = Correction(
            first=first,
            failures=found.failures,
            reasons=found.reasons,
            left=second.failures,
            kept="second" if kept else "first",
        )
        return Second(
            correction=made,
            validation=second if kept else found,
            text=choice.text if kept else first,
            finish_reason=choice.finish_reason if kept else None,
            parser=parser if kept else None,
            tokens=(prompt, choice.tokens),
            seconds=time.perf_counter() - start,
        )
