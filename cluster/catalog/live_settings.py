"""Live settings, one row for the service and one for each agent that has any."""

from typing import Any

from sqlalchemy import select

from cluster.catalog.tables import live_settings
from cluster.catalog.transaction import Work
from cluster.domain.base import Frozen, now
from cluster.domain.live_settings import AgentSettings, ServiceSettings

_SERVICE, _AGENT = "service", "agent/"


def of_agent(work: Work, name: str) -> AgentSettings:
    """An agent's; the defaults where nothing was set."""
    return work.body(AgentSettings, _row(_AGENT + name)) or AgentSettings()


def of_agents(work: Work) -> dict[str, AgentSettings]:
    """Those of all agents that have any, by name."""
    rows = work.run(select(live_settings.c.name, live_settings.c.body).where(live_settings.c.name != _SERVICE))
    return {row[0].removeprefix(_AGENT): AgentSettings.model_validate(row[1]) for row in rows}


def of_service(work: Work) -> ServiceSettings:
    """The service's; the defaults where nothing was set."""
    return work.body(ServiceSettings, _row(_SERVICE)) or ServiceSettings()


def save_agent(work: Work, name: str, settings: AgentSettings) -> None:
    """Replace an agent's."""
    _save(work, _AGENT + name, settings)


def save_service(work: Work, settings: ServiceSettings) -> None:
    """Replace the service's."""
    _save(work, _SERVICE, settings)


def _row(name: str) -> Any:
    return select(live_settings.c.body).where(live_settings.c.name == name)


def _save(work: Work, name: str, settings: Frozen) -> None:
    work.put(live_settings, {"name": name, "body": settings.model_dump(mode="json"), "updated_at": now()})
