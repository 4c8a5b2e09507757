"""Agents' cards as they are now (releases keep their own copies)."""

from datetime import datetime

from sqlalchemy import delete, select

from cluster.catalog.tables import agents
from cluster.catalog.transaction import Work
from cluster.domain.agents import RESERVED, Agent
from cluster.domain.base import now, with_zone
from cluster.errors import Conflict, NotFound, near


def save(work: Work, agent: Agent) -> None:
    """Create or replace an agent. Raises Conflict for the reserved name, and for a second default agent."""
    if agent.name in (*RESERVED, "auto"):
        raise Conflict(f"'{agent.name}' is reserved; give the agent another name.")
    if agent.default:
        for other in everyone(work):
            if other.default and other.name != agent.name:
                raise Conflict(f"Agent '{other.name}' is already the default; edit it before making '{agent.name}' the default.")
    if agent in everyone(work):
        return  # saved again as it was: not newer than what was learnt from it
    work.put(agents, {"name": agent.name, "body": agent.model_dump(mode="json"), "updated_at": now()})


def get(work: Work, name: str) -> Agent:
    """The agent. Raises NotFound with near names."""
    agent = work.body(Agent, select(agents.c.body).where(agents.c.name == name))
    if agent is None:
        close = near(name, [other.name for other in everyone(work)])
        hint = f"did you mean {' or '.join(close)}?" if close else "treadle agents list shows them all."
        raise NotFound(f"There is no agent '{name}'; {hint}")
    return agent


def everyone(work: Work) -> list[Agent]:
    """All agents by name."""
    return work.bodies(Agent, select(agents.c.body).order_by(agents.c.name))


def remove(work: Work, name: str) -> None:
    """Delete an agent's card. Its releases and turns stay: history is not rewritten."""
    get(work, name)
    work.run(delete(agents).where(agents.c.name == name))


def newer_than(work: Work, moment: datetime) -> list[str]:
    """The visible agents whose cards were changed after a moment."""
    rows = work.run(select(agents.c.body, agents.c.updated_at).order_by(agents.c.name))
    return [str(row[0]["name"]) for row in rows if row[0].get("visible", True) and with_zone(row[1]) > moment]
