"""Experiments in traffic: which side a conversation is on, and what happens when the challenger cannot answer.

In an experiment are questions to an agent by its name alone or by ``auto`` that leave a turn behind. The side is drawn by the
conversation's id, which a conversation without one gets here, so that every replica draws the same. Clients that never send an id but the
whole talk each time are known by its first question, as long as this replica remembers it (``MOST_TALKS``); after that, or on another
replica, a talk may change sides once.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from cluster.catalog import Catalog, experiments
from cluster.domain.base import digest_of, new_id
from cluster.domain.experiments import InExperiment
from cluster.domain.experiments import Trial as Counted
from cluster.errors import TreadleError, one_sentence
from serve_app.ask import Ask
from serve_app.engine import Delta
from serve_app.meters import Meters
from serve_app.releases import LiveReleases, Speaker
from serve_app.shadows import Shadows
from serve_app.trial import Trial

if TYPE_CHECKING:
    from serve_app.answering import Answering

log = logging.getLogger(__name__)
MOST_TALKS = 10_000
T = TypeVar("T")


class Experiments:
    """One replica's part in the running experiments."""

    def __init__(self, catalog: Catalog, live: LiveReleases, meters: Meters) -> None:
        self._catalog, self._live = catalog, live
        self.shadows = Shadows(catalog, live, meters)
        self._talks: OrderedDict[str, str] = OrderedDict()
        self._writing: set[asyncio.Task[None]] = set()

    def may_take(self, ask: Ask) -> bool:
        """Whether a question can be in an experiment, whoever it turns out to be for."""
        return bool(self._live.on_trial) and ask.record and "@" not in ask.model

    async def answered(self, ask: Ask, begin: Callable[[Ask], Awaitable[T]]) -> T:
        """What ``begin`` gives. When the challenger fails before its first word, the champion answers and the failure is counted."""
        trial = Trial()
        try:
            return await begin(replace(ask, trial=trial))
        except Exception as error:
            if trial.mark is None:
                raise
            if trial.mark.arm == "champion":
                self._failed(ask, trial, error)
                raise
            log.warning("experiment %s: the champion answers instead: %s", trial.mark.id, one_sentence(error))
            try:
                answer = await begin(replace(ask, trial=Trial(conversation=trial.conversation, champion_only=True)))
            except Exception:
                self._failed(ask, trial, error)
                raise
            self._failed(ask, trial)  # whatever it was, the champion has it not
            return answer

    def placed(self, answering: "Answering", ask: Ask, champion: Speaker) -> tuple[Ask, Speaker]:
        """The question and who answers it, when ``champion`` would without the experiment."""
        trial, agent = ask.trial, champion.card.name
        found = self._live.on_trial.get(agent)
        if trial is None or found is None or found.experiment.champion != champion.ref:
            return ask, champion
        experiment = found.experiment
        talk = self._talk(ask, agent, trial)
        ask = replace(ask, conversation_id=trial.conversation)
        stands_for = None if talk == trial.conversation else talk
        if trial.champion_only:
            trial.mark = InExperiment(id=experiment.id, arm="champion", fallback=True)
            return ask, champion
        drawn = experiment.drawn(talk)
        if experiment.kind == "shadow":
            if drawn:
                trial.mark, trial.release = InExperiment(id=experiment.id, arm="champion", talk=stands_for), champion.ref
                trial.recorded = partial(self.shadows.ask, answering, experiment, ask)
            return ask, champion
        speaker = self._live.challenger(agent) if drawn else champion
        arm = "challenger" if drawn else "champion"
        trial.mark = InExperiment.model_validate({"id": experiment.id, "arm": arm, "talk": stands_for})
        trial.release = speaker.ref
        return ask, speaker

    def _talk(self, ask: Ask, agent: str, trial: Trial) -> str:
        """What the side is drawn by; fills in the conversation's id."""
        if trial.conversation is not None or ask.conversation_id is not None:
            trial.conversation = trial.conversation or ask.conversation_id
            return trial.conversation or ""
        trial.conversation = new_id("conv")
        first = next(message.content for message in ask.messages if message.role == "user")
        key = digest_of([ask.user, agent, first])
        if ask.history:
            self._talks.setdefault(key, f"talk_{key[:34]}")
        else:
            self._talks[key] = trial.conversation
        self._talks.move_to_end(key)
        while len(self._talks) > MOST_TALKS:
            self._talks.popitem(last=False)
        return self._talks[key]

    async def watched(self, ask: Ask, deltas: AsyncIterator[Delta]) -> AsyncIterator[Delta]:
        """The deltas; a generation that breaks after its first one is counted here, because nobody asks it again."""
        begun = False
        async with contextlib.aclosing(deltas):  # type: ignore[type-var]
            try:
                async for delta in deltas:
                    begun = True
                    yield delta
            except Exception as error:
                if begun and ask.trial is not None and ask.trial.mark is not None:
                    self._failed(ask, ask.trial, error)
                raise

    def _failed(self, ask: Ask, trial: Trial, error: Exception | None = None) -> None:
        """Count a failure, unless it is the client's own."""
        mark = trial.mark
        own = isinstance(error, TreadleError) and error.status_code < 500
        if mark is None or mark.fallback or own:
            return
        talk = mark.talk or trial.conversation or ""
        counted = Counted(id=new_id("trial"), arm=mark.arm, release=trial.release, conversation=talk, error=True)
        task = asyncio.create_task(self._count(mark.id, ask.user, counted))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _count(self, id: str, user: str, counted: Counted) -> None:
        try:
            await asyncio.to_thread(self._write, id, user, counted)
        except TreadleError as error:
            log.error("experiment %s: a failure was not counted: %s", id, error.message)

    def _write(self, id: str, user: str, counted: Counted) -> None:
        with self._catalog.transaction() as work:
            experiments.record_error(work, id, user, counted)

    async def close(self) -> None:
        """Let shadows go, and write down what waits."""
        await self.shadows.close()
        await asyncio.gather(*self._writing)


def untried(ask: Ask) -> Ask:
    """The question outside of its experiment: the agent on trial has handed it to another one."""
    if ask.trial is None:
        return ask
    ask.trial.mark = None
    return replace(ask, trial=None)
