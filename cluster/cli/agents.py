"""Agents: who answers."""

from typing import Annotated

import typer

from cluster.catalog import agents, releases
from cluster.cli.console import Json, emit, home, note, table
from cluster.domain.releases import CHAMPION
from cluster.errors import Conflict
from cluster.flywheel import load_card

app = typer.Typer(no_args_is_help=True)
Card = Annotated[str, typer.Argument(help="A YAML file with the agent's card.")]


@app.command("list")
def list_agents(as_json: Json = False) -> None:
    """List agents and their champions."""
    with home.catalog.reading() as work:
        found = [(agent, releases.alias(work, agent.name, CHAMPION)) for agent in agents.everyone(work)]
    rows = [(agent.name, agent.display_name, champion or "-", "default" if agent.default else "") for agent, champion in found]
    value = [{**agent.model_dump(mode="json"), "champion": champion} for agent, champion in found]
    emit(value, as_json, lambda: table("Agents", ("agent", "shown as", "champion", ""), rows))


@app.command()
def create(card: Card, as_json: Json = False) -> None:
    """Create an agent from its card. Fails when it exists."""
    agent = load_card(card)
    with home.catalog.transaction() as work:
        if any(other.name == agent.name for other in agents.everyone(work)):
            raise Conflict(f"Agent '{agent.name}' exists; change it with: treadle agents edit {card}")
        agents.save(work, agent)
    emit(agent.model_dump(mode="json"), as_json, lambda: note(f"created {agent.name}"))


@app.command()
def edit(card: Card, as_json: Json = False) -> None:
    """Replace an agent's card. Its releases keep the card they were evaluated with."""
    agent = load_card(card)
    with home.catalog.transaction() as work:
        agents.get(work, agent.name)
        agents.save(work, agent)
    emit(agent.model_dump(mode="json"), as_json, lambda: note(f"changed {agent.name}; the next release carries it"))


@app.command()
def show(name: str, as_json: Json = False) -> None:
    """Show an agent's card."""
    with home.catalog.reading() as work:
        agent = agents.get(work, name)
    emit(agent.model_dump(mode="json"), as_json)


@app.command()
def delete(name: str, as_json: Json = False) -> None:
    """Remove an agent. Its releases and turns stay."""
    with home.catalog.transaction() as work:
        agents.remove(work, name)
    emit({"deleted": name}, as_json, lambda: note(f"deleted {name}"))
