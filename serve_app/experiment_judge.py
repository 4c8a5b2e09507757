"""Judging the running experiments again and again, so that a challenger that is proved worse is taken out while nobody watches."""

import asyncio
import logging
import time

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog
from cluster.errors import one_sentence
from cluster.experiments import judge
from cluster.registry import Registry
from cluster.settings import Settings
from serve_app.releases import LiveReleases

log = logging.getLogger(__name__)
EVERY_S = 2.0
SHARE_OF_TIME = 0.05
"""How much of a replica's time judging may take: an experiment with very many turns is judged less often."""


class ExperimentJudge:
    """One for each replica; the catalog sees to it that only one judges at a time. Reads nothing while no experiment runs."""

    def __init__(self, settings: Settings, catalog: Catalog, artifacts: Artifacts, live: LiveReleases) -> None:
        self._settings, self._catalog, self._artifacts, self._live = settings, catalog, artifacts, live
        self.every = EVERY_S
        self._failing = False

    async def keep(self) -> None:
        """Judge until cancelled."""
        took = 0.0
        while True:
            await asyncio.sleep(max(self.every, took / SHARE_OF_TIME))
            if not self._live.experiments:
                continue
            began = time.perf_counter()
            try:
                await asyncio.to_thread(judge, self._catalog, self._registry, self.every)
                self._failing = False
            except Exception as error:  # the edge: the next round tries again
                if not self._failing:
                    log.warning("experiments wait to be judged: %s", one_sentence(error))
                self._failing = True
            took = time.perf_counter() - began

    def _registry(self) -> Registry:
        return Registry(self._settings, self._catalog, self._artifacts)
