"""Follows the catalog: what changed there is made ready and then taken over.

A new champion is made ready (adapter loaded and one token answered, indexes opened) before it becomes the one that new turns get; a
turn keeps the release it began with. While the catalog cannot be read, what is known stays live.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any, Protocol

from cluster.catalog import Catalog, Work, agents, corpora, experiments, live_settings, releases
from cluster.domain.experiments import Experiment
from cluster.domain.releases import CHAMPION, Release
from cluster.errors import TreadleError, one_sentence
from serve_app.releases import TRIAL, LiveReleases, OnTrial, Seen, Speaker

log = logging.getLogger(__name__)
RETRY_SECONDS = 10.0


class Indexes(Protocol):
    """Where indexes are opened and closed."""

    async def open(self, indexes: dict[str, int]) -> Any: ...

    def holds(self, corpus: str, version: int) -> bool: ...

    def retain(self, live: Collection[tuple[str, int]]) -> None: ...


class Following:
    """``prepare(speaker)`` makes a release ready to answer; ``adopt`` takes a new release of a reserved name (the router's head, the
    guard's classifier) into use."""

    def __init__(
        self,
        live: LiveReleases,
        catalog: Catalog,
        prepare: Callable[[Speaker], Awaitable[None]],
        adopt: dict[str, Callable[[Release | None], Awaitable[None]]],
        indexes: Indexes,
    ) -> None:
        self._live, self._catalog, self._prepare, self._adopt, self._indexes = live, catalog, prepare, adopt, indexes
        self._unloaded: set[str] = set()
        self._adopted: dict[str, str | None] = {}
        self._retry_at: dict[str, float] = {}

    async def look(self) -> None:
        """Look into the catalog once and take over what changed."""
        read = await asyncio.to_thread(self._read)
        seen = replace(read, newest={corpus: self._answered_from(corpus, version) for corpus, version in read.newest.items()})
        self._live.bare_allowed |= {name for name in self._live.agents if name not in self._live.seen.champions}
        self._live.seen = seen
        self._end_trials()
        gone = [name for name in self._live.champions if name not in seen.champions]
        for name in gone:
            del self._live.champions[name]
        await asyncio.gather(
            *(self._follow_agent(name, version) for name, version in seen.champions.items() if name in seen.agents)
        )
        await asyncio.gather(*(self._follow_experiment(one) for one in seen.experiments.values()))
        for name in self._adopt:
            await self._follow_reserved(name, seen.champions.get(name))
        opened = {corpus: version for corpus, version in read.newest.items() if await self._opens(corpus, version)}
        self._live.seen = replace(seen, newest={**seen.newest, **opened})
        pinned = (key for one in self._live.champions.values() for key in one.indexes.items())
        self._indexes.retain({*self._live.seen.newest.items(), *pinned})

    def _answered_from(self, corpus: str, newest: int) -> int:
        """The version that questions meet now: a newer one only once it is open too."""
        present = self._live.seen.newest.get(corpus, newest)
        return present if self._indexes.holds(corpus, present) else newest

    async def _opens(self, corpus: str, version: int) -> bool:
        ref = f"{corpus}@{version}"
        if version == self._live.seen.newest.get(corpus):
            return True
        if self._waits(ref):
            return False
        try:
            await self._indexes.open({corpus: version})
        except Exception as error:  # the version before goes on
            self._failed(f"corpus {corpus}", ref, error)
            return False
        self._live.problems.pop(f"corpus {corpus}", None)
        return True

    async def follow(self, every: float) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.look()
                self._live.problems.pop("catalog", None)
            except TreadleError as error:
                if "catalog" not in self._live.problems:
                    log.warning("what is live stays as it is: %s", error.message)
                self._live.problems["catalog"] = error.message

    def _read(self) -> Seen:
        with self._catalog.reading() as work:
            cards = {agent.name: agent for agent in agents.everyone(work)}
            aliases = releases.all_aliases(work)
            return Seen(
                cards,
                {agent: version for (agent, alias), version in aliases.items() if alias == CHAMPION},
                _newest(work, {corpus for card in cards.values() for corpus in card.corpora}),
                live_settings.of_agents(work),
                live_settings.of_service(work),
                experiments.running(work),
            )

    async def _follow_agent(self, name: str, version: str) -> None:
        present = self._live.champions.get(name)
        preload = self._live.settings(name).preload
        taken = present is not None and present.version == version and not (preload and name in self._unloaded)
        if taken or self._waits(f"{name}@{version}"):
            return
        try:
            release = await asyncio.to_thread(self._live.read, f"{name}@{version}")
            if preload:
                await self._prepare(Speaker(release.card, release, release.indexes))
        except Exception as error:  # a release that cannot be loaded must not stop the others
            self._failed(name, f"{name}@{version}", error)
            return
        self._live.champions[name] = release
        self._live.know(release)
        (self._unloaded.discard if preload else self._unloaded.add)(name)
        self._live.problems.pop(name, None)
        log.info("%s answers with %s (before: %s)", name, release.ref, present.ref if present else "nothing")

    async def _follow_reserved(self, name: str, version: str | None) -> None:
        if version == self._adopted.get(name) or self._waits(f"{name}@{version}"):
            return
        try:
            release = None if version is None else await asyncio.to_thread(self._live.read, f"{name}@{version}")
            await self._adopt[name](release)
        except Exception as error:  # the one before goes on
            self._failed(name, f"{name}@{version}", error)
            return
        self._adopted[name] = version
        self._live.problems.pop(name, None)

    def _end_trials(self) -> None:
        """From here on champions answer for whom no experiment is running."""
        running = {one.id for one in self._live.experiments.values()}
        self._live.on_trial = {name: one for name, one in self._live.on_trial.items() if one.experiment.id in running}
        for name in [name for name in self._live.problems if name.startswith(TRIAL) and name.removeprefix(TRIAL) not in running]:
            del self._live.problems[name]

    async def _follow_experiment(self, experiment: Experiment) -> None:
        """A challenger gets questions once it is ready; until then, and when it cannot be loaded, its champion answers all."""
        name = TRIAL + experiment.id
        if experiment.agent in self._live.on_trial or self._waits(name):
            return
        try:
            release = await asyncio.to_thread(self._live.read, experiment.challenger)
            await self._prepare(Speaker(release.card, release, release.indexes))
        except Exception as error:  # whatever is wrong with the challenger, the champion answers
            self._failed(name, name, error)
            return
        if experiment.id in {one.id for one in self._live.experiments.values()}:
            self._live.on_trial[experiment.agent] = OnTrial(experiment, release)
            self._live.problems.pop(name, None)
            log.info("%s: %s is tried beside %s", experiment.id, experiment.challenger, experiment.champion)

    def _waits(self, ref: str) -> bool:
        return time.monotonic() < self._retry_at.get(ref, 0.0)

    def _failed(self, name: str, ref: str, error: Exception) -> None:
        self._retry_at[ref] = time.monotonic() + RETRY_SECONDS
        self._live.problems[name] = one_sentence(error)
        log.error("%s was not taken into use: %s", ref, one_sentence(error))


def _newest(work: Work, names: set[str]) -> dict[str, int]:
    found = {}
    for name in names:
        held = corpora.versions(work, name)
        if held:
            found[name] = held[-1].version
    return found
