"""What is live: agents, champions, indexes and live settings, followed in the catalog.

A new champion is made ready (adapter loaded and one token answered, indexes opened) before it becomes the one that new turns get; a
turn keeps the release it began with. While the catalog cannot be read, what is known stays live.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cluster.catalog import Catalog, Work, agents, corpora, live_settings, releases
from cluster.domain.agents import BASE_VERSION, RESERVED, Agent
from cluster.domain.live_settings import AgentSettings, ServiceSettings
from cluster.domain.releases import CHAMPION, Release
from cluster.domain.users import Person
from cluster.domain.versions import split_ref
from cluster.errors import NotFound, TreadleError, Unavailable, near, one_sentence

log = logging.getLogger(__name__)
RETRY_SECONDS = 10.0
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
class Seen:
    """What one look into the catalog found."""

    agents: dict[str, Agent]
    champions: dict[str, str]
    newest: dict[str, int]
    settings: dict[str, AgentSettings] = field(default_factory=dict)
    service: ServiceSettings = field(default_factory=ServiceSettings)


class LiveReleases:
    """``prepare(speaker)`` makes a release ready to answer; ``adopt`` takes a new release of a reserved name (the router's head, the
    guard's classifier) into use."""

    def __init__(
        self,
        catalog: Catalog,
        prepare: Callable[[Speaker], Awaitable[None]],
        adopt: dict[str, Callable[[Release | None], Awaitable[None]]],
        base_name: str,
    ) -> None:
        self._base_name = base_name
        self._catalog, self._prepare, self._adopt = catalog, prepare, adopt
        self._seen = Seen({}, {}, {})
        self._champions: dict[str, Release] = {}
        self._known: dict[str, Release] = {}
        self._bare: set[str] = set()
        self._unloaded: set[str] = set()
        self._adopted: dict[str, str | None] = {}
        self._retry_at: dict[str, float] = {}
        self.problems: dict[str, str] = {}

    @property
    def agents(self) -> dict[str, Agent]:
        """All agents by name, as their cards are now."""
        return self._seen.agents

    def settings(self, name: str) -> AgentSettings:
        """An agent's live settings."""
        return self._seen.settings.get(name, _UNCHANGED)

    def may(self, name: str, person: Person) -> bool:
        """Whether this person may use the agent. Where not, it has to look as if there were none of that name."""
        return self.settings(name).access.allows(person)

    def routable(self, person: Person) -> set[str]:
        """The agents that are listed for this person and may answer their ``auto``."""
        return {name for name, card in self.agents.items() if self.may(name, person) and self._visible(card)}

    def guard_policy(self, name: str | None = None) -> str | None:
        """The guard policy of questions to an agent, or to nobody in particular; None: the guard's own."""
        own = None if name is None else self.settings(name).guard_policy
        return own or self._seen.service.guard_policy

    def default(self, person: Person) -> Agent | None:
        """Who answers this person when nobody was picked: the live settings' default agent, the one whose card says so, or the first."""
        open_to = [self.agents[name] for name in sorted(self.routable(person))]
        chosen = self._seen.service.default_agent
        named = [one for one in open_to if one.name == chosen] or [one for one in open_to if one.default] or open_to
        return named[0] if named else None

    def _changed(self, card: Agent) -> Agent:
        settings = self._seen.settings.get(card.name)
        return card if settings is None else settings.over(card)

    def _visible(self, card: Agent) -> bool:
        said = self.settings(card.name).visible
        return card.visible if said is None else said

    def champion(self, name: str) -> Speaker:
        """The agent's champion, or ``agent@base`` until its first champion is ready.

        Raises Unavailable when the champion cannot be loaded and nothing answered for the agent before it.
        """
        card = self.agents[name]
        release = self._champions.get(name)
        if release is not None:
            return Speaker(self._changed(release.card), release, release.indexes)
        if name in self.problems and name not in self._bare:
            raise Unavailable(f"The champion of '{name}' cannot answer: {self.problems[name]}")
        return self.bare(self._changed(card))

    def bare(self, card: Agent) -> Speaker:
        """``agent@base``: the card on the bare base model, with the newest version of each corpus."""
        newest = self._seen.newest
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
                    release = await asyncio.to_thread(self._read_release, model)
                except NotFound:
                    raise await self.unknown(model, person) from None
                if release.ref != model:  # an alias, which may move
                    return Speaker(release.card, release, release.indexes)
                self._known[model] = release
            release = self._known[model]
            return Speaker(release.card, release, release.indexes)
        raise await self.unknown(model, person)

    async def unknown(self, model: str, person: Person) -> NotFound:
        """The error for a model that is not served to this person, with the names most like it."""
        close = near(model, await self.names(person))
        hint = f"did you mean {' or '.join(close)}?" if close else "GET /v1/models lists them."
        return NotFound(f"There is no model '{model}'; {hint}")

    async def names(self, person: Person) -> list[str]:
        """Every name that answers this person: auto, agents, ``agent@base``, releases but retired ones, and the base model."""
        refs = await asyncio.to_thread(self._read_refs)
        listed = self.routable(person)
        shown = [name for name in self.agents if name in listed]
        # The releases of an agent whose card is gone still answer.
        kept = [ref for agent, ref in refs if agent in listed or (agent not in self.agents and self.may(agent, person))]
        return ["auto", *shown, *(f"{name}@{BASE_VERSION}" for name in shown), *kept, self._base_name]

    def _read_release(self, ref: str) -> Release:
        with self._catalog.reading() as work:
            return releases.get(work, ref)

    def _read_refs(self) -> list[tuple[str, str]]:
        with self._catalog.reading() as work:
            gone = releases.retired(work)
            return [
                (one.agent, one.ref) for one in releases.everything(work) if one.agent not in RESERVED and one.ref not in gone
            ]

    async def look(self) -> None:
        """Look into the catalog once and take over what changed."""
        seen = await asyncio.to_thread(self._read)
        self._bare |= {name for name in self.agents if name not in self._seen.champions}
        self._seen = seen
        gone = [name for name in self._champions if name not in seen.champions]
        for name in gone:
            del self._champions[name]
        await asyncio.gather(
            *(self._follow_agent(name, version) for name, version in seen.champions.items() if name in seen.agents)
        )
        for name in self._adopt:
            await self._follow_reserved(name, seen.champions.get(name))

    async def follow(self, every: float) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.look()
                self.problems.pop("catalog", None)
            except TreadleError as error:
                if "catalog" not in self.problems:
                    log.warning("what is live stays as it is: %s", error.message)
                self.problems["catalog"] = error.message

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
            )

    async def _follow_agent(self, name: str, version: str) -> None:
        present = self._champions.get(name)
        preload = self.settings(name).preload
        taken = present is not None and present.version == version and not (preload and name in self._unloaded)
        if taken or self._waits(f"{name}@{version}"):
            return
        try:
            release = await asyncio.to_thread(self._read_release, f"{name}@{version}")
            if preload:
                await self._prepare(Speaker(release.card, release, release.indexes))
        except Exception as error:  # a release that cannot be loaded must not stop the others
            self._failed(name, f"{name}@{version}", error)
            return
        self._champions[name] = self._known[release.ref] = release
        (self._unloaded.discard if preload else self._unloaded.add)(name)
        self.problems.pop(name, None)
        log.info("%s answers with %s (before: %s)", name, release.ref, present.ref if present else "nothing")

    async def _follow_reserved(self, name: str, version: str | None) -> None:
        if version == self._adopted.get(name) or self._waits(f"{name}@{version}"):
            return
        try:
            release = None if version is None else await asyncio.to_thread(self._read_release, f"{name}@{version}")
            await self._adopt[name](release)
        except Exception as error:  # the one before goes on
            self._failed(name, f"{name}@{version}", error)
            return
        self._adopted[name] = version
        self.problems.pop(name, None)

    def _waits(self, ref: str) -> bool:
        return time.monotonic() < self._retry_at.get(ref, 0.0)

    def _failed(self, name: str, ref: str, error: Exception) -> None:
        self._retry_at[ref] = time.monotonic() + RETRY_SECONDS
        self.problems[name] = one_sentence(error)
        log.error("%s was not taken into use: %s", ref, one_sentence(error))


def _newest(work: Work, names: set[str]) -> dict[str, int]:
    found = {}
    for name in names:
        held = corpora.versions(work, name)
        if held:
            found[name] = held[-1].version
    return found
