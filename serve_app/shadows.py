"""Shadows: the challenger is asked what the champion has answered, in the background, and nobody sees its answer.

Never more than a few at a time and none while the engine is busy: what cannot be asked at once is dropped and counted. A shadow costs its
user no tokens. Its passages are guarded, its answer is not: nobody gets it.
"""

import asyncio
import contextlib
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.catalog import Catalog, experiments
from cluster.domain.base import new_id
from cluster.domain.conversations import Turn
from cluster.domain.experiments import Experiment, InExperiment
from cluster.domain.experiments import Trial as Counted
from cluster.errors import TreadleError, one_sentence
from serve_app.ask import Ask
from serve_app.meters import Meters, escaped
from serve_app.releases import LiveReleases, Speaker
from serve_app.validator import validate

if TYPE_CHECKING:
    from serve_app.answering import Answering

log = logging.getLogger(__name__)


class Shadows:
    """One replica's."""

    def __init__(self, catalog: Catalog, live: LiveReleases, meters: Meters) -> None:
        self._catalog, self._live, self._meters = catalog, live, meters
        self._under_way: set[asyncio.Task[None]] = set()

    def ask(self, answering: "Answering", experiment: Experiment, ask: Ask, seen: Turn) -> None:
        """Ask the challenger what ``seen`` was asked, soon, if there is room. Never waits."""
        if len(self._under_way) >= experiment.settings.shadow_at_once:
            self._dropped(experiment)
            return
        task = asyncio.create_task(self._run(answering, experiment, ask, seen))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Let those under way go."""
        for task in list(self._under_way):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _dropped(self, experiment: Experiment) -> None:
        self._meters.add(f'treadle_shadows_dropped_total{{agent="{escaped(experiment.agent)}"}}')

    async def _run(self, answering: "Answering", experiment: Experiment, ask: Ask, seen: Turn) -> None:
        try:
            found = self._live.on_trial.get(experiment.agent)
            if found is None:
                self._dropped(experiment)
                return
            state = await answering.bases.of(found.challenger).engine.state()
            found = self._live.on_trial.get(experiment.agent)
            if state.running >= experiment.settings.shadow_busy or found is None or found.experiment.id != experiment.id:
                self._dropped(experiment)
                return
            speaker = self._live.challenger(experiment.agent)
            try:
                turn = await self._answered(answering, experiment, ask, speaker, seen)
            except Exception as error:  # whatever it was: the challenger has no answer where the champion has one
                log.warning("experiment %s: a shadow failed: %s", experiment.id, one_sentence(error))
                await asyncio.to_thread(self._write_error, experiment, speaker, seen)
                return
            await asyncio.to_thread(self._write, turn)
        except TreadleError as error:
            log.error("experiment %s: a shadow was not recorded: %s", experiment.id, error.message)
        except Exception:  # the edge of a task that nobody waits for
            log.exception("experiment %s: a shadow broke", experiment.id)

    async def _answered(self, answering: "Answering", experiment: Experiment, ask: Ask, speaker: Speaker, seen: Turn) -> Turn:
        start = time.perf_counter()
        request, passages = await answering.unseen(replace(ask, stream=False), speaker)
        pieces: list[str] = []
        written = 0
        async with contextlib.aclosing(answering.bases.of(speaker.release).engine.generate(request)) as deltas:
            async for delta in deltas:
                pieces.append(delta.text)
                written += delta.tokens
        text = "".join(pieces)
        kept = seen.experiment.talk if seen.experiment else None
        return Turn(
            conversation_id=seen.conversation_id,
            user=seen.user,
            question=seen.question,
            history=seen.history,
            answer=text,
            agent=seen.agent,
            release=speaker.ref,
            route=seen.route,
            validation=validate(speaker.card, text, passages),
            timings={"total": round(time.perf_counter() - start, 6)},
            tokens={"prompt": len(request.prompt_ids), "completion": written},
            experiment=InExperiment(id=experiment.id, arm="challenger", shadow_of=seen.id, talk=kept),
        )

    def _write(self, turn: Turn) -> None:
        with self._catalog.transaction() as work:
            experiments.record(work, [turn])

    def _write_error(self, experiment: Experiment, speaker: Speaker, seen: Turn) -> None:
        talk = (seen.experiment.talk if seen.experiment else None) or seen.conversation_id
        counted = Counted(
            id=new_id("trial"), arm="challenger", release=speaker.ref, conversation=talk, error=True, shadow_of=seen.id
        )
        with self._catalog.transaction() as work:
            experiments.record_error(work, experiment.id, seen.user, counted)
