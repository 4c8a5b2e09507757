"""An answer on its way: its pieces, then guard → validate → record."""

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from cluster.domain.base import new_id
from cluster.domain.conversations import Citation, Route, Turn
from cluster.domain.response_parsing import WHOLE, ResponseParser, Stripped
from cluster.domain.validation import Validation
from serve_app.ask import Ask
from serve_app.correction import Corrector, Second
from serve_app.engine import Delta, Engine
from serve_app.grounds import Grounds
from serve_app.guard import GuardPost
from serve_app.meters import Meters, escaped
from serve_app.recording import Recorder
from serve_app.releases import Speaker
from serve_app.response_parsing import taken
from serve_app.validator import Validator, cited


class Answer:
    """An answer on its way. ``deltas`` gives it out once; after it, ``text``, ``finish_reason``, ``tokens`` and ``about`` are whole.

    ``others`` are further answers to the same question, when several were asked for; they are not recorded. ``parser`` strips what is not
    the answer, and ``corrector`` asks once more where rules are broken; both only where there is one. ``engine`` is the one that writes.
    """

    def __init__(
        self,
        ask: Ask,
        speaker: Speaker | None,
        route: Route,
        passages: tuple[Citation, ...],
        flags: tuple[str, ...],
        prompt_tokens: int,
        timings: dict[str, float],
        start: float,
        recorder: Recorder,
        guard: GuardPost,
        meters: Meters,
        spent: Callable[[str, int], None],
        validator: Validator,
        parser: ResponseParser | None,
        grounds: Grounds,
        engine: Engine,
    ) -> None:
        self.id, self.engine = new_id("chatcmpl"), engine
        self.text, self.finish_reason = "", "stop"
        self.tokens = {"prompt": prompt_tokens, "completion": 0}
        self.about: dict[str, Any] = {}
        self._ask, self._speaker, self._route, self._passages = ask, speaker, route, passages
        self._flags = flags if route.sentence is None else (*flags, route.sentence)
        self._timings, self._start, self._recorder, self._guard = timings, start, recorder, guard
        self._meters, self._spent, self._validator, self.parser, self._grounds = meters, spent, validator, parser, grounds
        self.corrector: Corrector | None = None
        self._second: Second | None = None
        self.others: tuple[AsyncIterator[Delta], ...] = ()
        self._first: Delta | None = None
        self._rest: AsyncIterator[Delta] | None = None

    async def open(self, deltas: AsyncIterator[Delta]) -> None:
        """Wait for the first delta, so that an adapter that cannot be loaded is an HTTP status and not a broken stream."""
        self._rest = deltas
        try:
            self._first = await anext(deltas)
        except StopAsyncIteration:
            self._first = None
        self._timings["first_token"] = time.perf_counter() - self._start

    async def deltas(self) -> AsyncIterator[Delta]:
        """The pieces. The turn is committed before the iteration ends."""
        pieces: list[str] = []
        try:
            ended = False
            if self._first is not None:
                delta = self._take(self._first)
                ended = delta.finish_reason is not None
                pieces.append(delta.text)
                yield delta
            if self._rest is not None and not ended:
                async for delta in self._rest:
                    delta = self._take(delta)
                    pieces.append(delta.text)
                    yield delta
                    if self.parser is not None and self.parser.cut:
                        break
            rest = self.parser.finish() if self.parser is not None else ""
            if rest:
                pieces.append(rest)
                yield Delta(rest, 0)
        finally:
            self.spent(sum(self.tokens.values()))
            close = getattr(self._rest, "aclose", None)
            if close is not None:
                await close()
        text = "".join(pieces)
        self.text = self.checked(text)
        if self.text != text:
            self.finish_reason = "content_filter"
        self._timings["total"] = time.perf_counter() - self._start
        await self._finish()

    def spent(self, tokens: int) -> None:
        """Count tokens against the day of who asked."""
        self._spent(self._ask.user, tokens)

    def _take(self, delta: Delta) -> Delta:
        self.tokens["completion"] += delta.tokens
        self.finish_reason = delta.finish_reason or self.finish_reason
        return delta if self.parser is None else taken(self.parser, delta)

    def checked(self, text: str) -> str:
        """A whole text as the guard lets it be shown. What was streamed is out, and is only flagged."""
        shown, flags = self._guarded(text, self._ask.stream)
        self._flags = tuple(dict.fromkeys((*self._flags, *flags)))
        if self.about:
            self.about["flags"] = list(self._flags)
        return shown

    async def judged(self, text: str, parser: ResponseParser | None) -> Validation:
        """What the rules of who speaks say of a text; ``parser`` knows what was stripped from it."""
        if self._speaker is None:
            return Validation(passed=True)
        return await self._validator.validation(self._speaker.card, self._ask.question, text, self._passages, parser)

    async def _validated(self) -> Validation:
        found = await self.judged(self.text, self.parser)
        if found.passed or self.corrector is None or self.finish_reason == "content_filter":
            return found
        self._second = second = await self.corrector.correct(self.text, found)
        if second is None:
            return found
        self.text, self.finish_reason = second.text, second.finish_reason or self.finish_reason
        self.parser = second.parser or self.parser
        self.tokens["prompt"] += second.tokens[0]
        self.tokens["completion"] += second.tokens[1]
        self._timings["correction"] = second.seconds
        self._timings["total"] = time.perf_counter() - self._start
        name = escaped(self._route.agent)
        self._meters.add(f'treadle_corrections_total{{agent="{name}",kept="{second.correction.kept}"}}')
        return second.validation

    def checked_again(self, text: str) -> str:
        """A second answer as the guard lets it be shown; one that it changes will not be, and leaves no flags."""
        flags = self._flags
        shown = self.checked(text)
        if shown != text:
            self._flags = flags
        return shown

    def _guarded(self, text: str, sent: bool) -> tuple[str, tuple[str, ...]]:
        prompt = self._speaker.card.prompt if self._speaker else ""
        sources = [*(message.content for message in self._ask.messages), prompt, *(passage.text for passage in self._passages)]
        return self._guard.answer(self._ask.user, text, prompt, sources, self._route.agent, sent)

    async def _finish(self) -> None:
        speaker, grounds = self._speaker, self._grounds
        told = speaker is None or self._route.sentence is not None
        validation = Validation(passed=True) if told or grounds.said else await self._validated()
        if grounds.flags:
            self._flags = tuple(dict.fromkeys((*self._flags, *grounds.flags)))
        if grounds.draft is not None:
            grounds.draft = self._guarded(grounds.draft, False)[0]
        stripped = self.parser.stripped if self.parser is not None else WHOLE
        correction = self._second.correction if self._second else None
        turn_id = None if speaker is None else await self._recorded(speaker, validation, stripped)
        self._meters.answered(self._route.agent, self.finish_reason, self.tokens, self._timings, validation.passed)
        self.about = {
            "turn_id": turn_id,
            "conversation_id": self._conversation if turn_id else self._ask.conversation_id,
            "agent": self._route.agent,
            "release": None if told else speaker.ref,
            "digest": None if told else speaker.digest,
            "route": {**self._route.model_dump(mode="json"), "scores": {k: round(v, 4) for k, v in self._route.scores.items()}},
            "citations": [passage.model_dump(mode="json", exclude={"readers"}) for passage in self._passages],
            "cited": [passage.number for passage in cited(self.text, self._passages)],
            "validation": validation.model_dump(mode="json"),
            "stripped": stripped.kinds,
            "confidence": stripped.confidence,
            **({"correction": correction.model_dump(mode="json", exclude={"first"})} if correction else {}),
            "flags": list(self._flags),
            "timings": {name: round(seconds, 4) for name, seconds in self._timings.items()},
            **grounds.shown(),
        }
        if self._ask.trial is not None and self._ask.trial.mark is not None:
            self.about["experiment"] = self._ask.trial.mark.shown()

    _conversation: str | None = None

    async def _recorded(self, speaker: Speaker, validation: Validation, stripped: Stripped) -> str | None:
        ask = self._ask
        if not ask.record:
            return None
        self._conversation = ask.conversation_id or new_id("conv")
        turn = Turn(
            conversation_id=self._conversation,
            user=ask.user,
            question=ask.question,
            history=self._grounds.history,
            query=self._grounds.query,
            passages=self._passages,
            draft=self._grounds.draft,
            answer=self.text,
            agent=speaker.card.name,
            release=None if self._route.sentence is not None else speaker.ref,
            route=self._route,
            validation=validation,
            correction=self._second.correction if self._second else None,
            stripped=stripped if stripped.confidence < 1.0 else None,
            timings={name: round(seconds, 6) for name, seconds in self._timings.items()},
            tokens=dict(self.tokens),
            flags=self._flags,
            metadata=ask.metadata,
            experiment=ask.trial.mark if ask.trial else None,
        )
        kept = await self._recorder.record(turn)
        if kept and ask.trial is not None and ask.trial.recorded is not None:
            ask.trial.recorded(turn)
        return turn.id if kept else None
