"""What is live: agents, champions, challengers, indexes and live settings, as ``Following`` last found them in the catalog."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster.catalog import Catalog, releases
from cluster.domain.agents import BASE_VERSION, RESERVED, Agent
from cluster.domain.experiments import Experiment
from cluster.domain.live_settings import AgentSettings, ServiceSettings
from cluster.domain.releases import Release
from cluster.domain.users import Person
from cluster.domain.versions import split_ref
from cluster.errors import NotFound, Unavailable, near

TRIAL = "experiment "
"""What the names of problems with challengers begin with; the experiment's id follows."""
MOST_KNOWN = 1024
"""Releases whose records stay in memory for who asks for them by version."""
_UNCHANGED = AgentSettings()


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who answers a turn: a card, and the release behind it (None: the bare base with the agent's prompt, ``agent@base``)."""

    card: Agent
    release: Release | None
    indexes: dict[str, int] = field(default_factory=dict)

    @property
    def ref(self) -> str:
        return self.release.ref if self.release else f"{self.card.name}@{BASE_VERSION}"

    @property
    def digest(self) -> str | None:
        """Of everything that decides how the release answers; the engine compares the adapter's with its bytes when it loads them."""
        return self.release.digest if self.release else None

    @property
    def adapter(self) -> str | None:
        """The engine's name for it."""
        return self.release.ref if self.release else None


@dataclass(frozen=True, slots=True)
class OnTrial:
    """A running experiment whose challenger is ready to answer."""

    experiment: Experiment
    challenger: Release


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look into the catalog found."""

    agents: dict[str, Agent]
    champions: dict[str, str]
    newest: dict[str, int]
    settings: dict[str, AgentSettings] = field(default_factory=dict)
    service: ServiceSettings = field(default_factory=ServiceSettings)
    experiments: dict[str, Experiment] = field(default_factory=dict)


class LiveReleases:
    """What is known, and what follows from it; ``Following`` keeps it up to date."""

    def __init__(self, catalog: Catalog, base_names: Sequence[str]) -> None:
        self._catalog, self._base_names = catalog, base_names
        self.seen = Seen({}, {}, {})
        self.champions: dict[str, Release] = {}
        """The champions that are ready, by agent."""
        self.on_trial: dict[str, OnTrial] = {}
        self.bare_allowed: set[str] = set()
        """Agents that had no champion at some time: they answer on the bare base while their first one cannot be loaded."""
        self.problems: dict[str, str] = {}
        self._known: dict[str, Release] = {}

    @property
    def agents(self) -> dict[str, Agent]:
        """All agents by name, as their cards are now."""
        return self.seen.agents

    @property
    def service(self) -> ServiceSettings:
        """The service's live settings."""
        return self.seen.service

    def shown(self, name: str) -> Agent:
        """An agent's card as people see it: with its live settings."""
        return self._changed(self.agents[name])

    def settings(self, name: str) -> AgentSettings:
        """An agent's live settings."""
        return self.seen.settings.get(name, _UNCHANGED)

    def may(self, name: str, person: Person) -> bool:
        """Whether this person may use the agent. Where not, it has to look as if there were none of that name."""
        return self.settings(name).access.allows(person)

    def routable(self, person: Person) -> set[str]:
        """The agents that are listed for this person and may answer their ``auto``."""
        return {name for name, card in self.agents.items() if self.may(name, person) and self._visible(card)}

    def guard_policy(self, name: str | None = None) -> str | None:
        """The guard policy of questions to an agent, or to nobody in particular; None: the guard's own."""
        own = None if name is None else self.settings(name).guard_policy
        return own or self.seen.service.guard_policy

    def default(self, person: Person) -> Agent | None:
        """Who answers this person when nobody was picked: the live settings' default agent, the one whose card says so, or the first."""
        open_to = [self.agents[name] for name in sorted(self.routable(person))]
        chosen = self.seen.service.default_agent
        named = [one for one in open_to if one.name == chosen] or [one for one in open_to if one.default] or open_to
        return named[0] if named else None

    def _changed(self, card: Agent) -> Agent:
        settings = self.seen.settings.get(card.name)
        return card if settings is None else settings.over(card)

    def _visible(self, card: Agent) -> bool:
        said = self.settings(card.name).visible
        return card.visible if said is None else said

    def champion(self, name: str) -> Speaker:
        """The agent's champion, or ``agent@base`` until its first champion is ready.

        Raises Unavailable when the champion cannot be loaded and nothing answered for the agent before it.
        """
        card = self.agents[name]
        release = self.champions.get(name)
        if release is not None:
            return Speaker(self._changed(release.card), release, release.indexes)
        if name in self.problems and name not in self.bare_allowed:
            raise Unavailable(f"The champion of '{name}' cannot answer: {self.problems[name]}")
        return self.bare(self._changed(card))

    @property
    def experiments(self) -> dict[str, Experiment]:
        """The running experiments by agent, whether or not their challengers are ready."""
        return self.seen.experiments

    def challenger(self, name: str) -> Speaker:
        """The challenger of the agent's experiment, under the same live settings as its champion."""
        release = self.on_trial[name].challenger
        return Speaker(self._changed(release.card), release, release.indexes)

    def bare(self, card: Agent) -> Speaker:
        """``agent@base``: the card on the bare base model, with the newest version of each corpus."""
        newest = self.seen.newest
        return Speaker(card, None, {corpus: newest[corpus] for corpus in card.corpora if corpus in newest})

    async def speaker(self, model: str, person: Person) -> Speaker:
        """Who answers for ``agent``, ``agent@version``, ``agent@champion`` or ``agent@base``. Raises NotFound with near names.

        Only who asks the agent by its name alone meets its live settings; the others answer as they were released.
        """
        name, version = split_ref(model)
        if not self.may(name, person):
            raise await self.unknown(model, person)
        if version is None and name in self.agents:
            return self.champion(name)
        if version == BASE_VERSION and name in self.agents:
            return self.bare(self.agents[name])
        if version is not None and name not in RESERVED:
            if model not in self._known:
                try:
                    release = await asyncio.to_thread(self.read, model)
                except NotFound:
                    raise await self.unknown(model, person) from None
                if release.ref != model:  # an alias, which may move
                    return Speaker(release.card, release, release.indexes)
                self.know(release)
            release = self._known[model] = self._known.pop(model)
            return Speaker(release.card, release, release.indexes)
        raise await self.unknown(model, person)

    def know(self, release: Release) -> None:
        """Keep the release's record for who asks for it by version; the least recently asked for goes."""
        self._known[release.ref] = release
        while len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]

    async def unknown(self, model: str, person: Person) -> NotFound:
        """The error for a model that is not served to this person, with the names most like it."""
        close = near(model, await self.names(person))
        hint = f"did you mean {' or '.join(close)}?" if close else "GET /v1/models lists them."
        return NotFound(f"There is no model '{model}'; {hint}")

    async def names(self, person: Person) -> list[str]:
        """Every name that answers this person: auto, agents, ``agent@base``, releases but retired ones, and the base models."""
        return list(await self.listed(person))

    async def listed(self, person: Person) -> dict[str, Release | None]:
        """Those names, and the release that answers for each, where there is one."""
        there = await asyncio.to_thread(self._read_unretired)
        listed = self.routable(person)
        shown = [name for name in self.agents if name in listed]
        # The releases of an agent whose card is gone still answer.
        kept = [one for one in there if one.agent in listed or (one.agent not in self.agents and self.may(one.agent, person))]
        return {
            "auto": None,
            **{name: self.champions.get(name) for name in shown},
            **{f"{name}@{BASE_VERSION}": None for name in shown},
            **{one.ref: one for one in kept},
            **dict.fromkeys(self._base_names),
        }

    def read(self, ref: str) -> Release:
        """A release as the catalog has it. Raises NotFound."""
        with self._catalog.reading() as work:
            return releases.get(work, ref)

    def _read_unretired(self) -> list[Release]:
        with self._catalog.reading() as work:
            gone = releases.retired(work)
            return [one for one in releases.everything(work) if one.agent not in RESERVED and one.ref not in gone]
