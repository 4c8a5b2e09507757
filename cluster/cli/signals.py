"""Signals: what people said, and what became of it."""

from typing import Annotated

import typer

from cluster.catalog import signals
from cluster.cli.console import Detach, Json, emit, home, table
from cluster.domain.data_recipes import SignalsRecipe

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_signals(limit: int = 50, as_json: Json = False) -> None:
    """List the newest signals."""
    with home.catalog.reading() as work:
        found = signals.recent(work, limit)
    rows = [(one.id, one.kind, one.value, one.user, f"{one.created_at:%Y-%m-%d %H:%M}") for one in found]
    value = [one.model_dump(mode="json") for one in found]
    emit(value, as_json, lambda: table("Signals", ("signal", "kind", "value", "by", "when"), rows))


@app.command()
def curate(agent: Annotated[str | None, typer.Option()] = None, detach: Detach = False, as_json: Json = False) -> None:
    """Turn signals that wait into datasets and regression questions."""
    emit(home.launch("data_jobs.signals", SignalsRecipe(agent=agent), detach), as_json)


@app.command()
def ledger(limit: int = 50, as_json: Json = False) -> None:
    """Show what became of the newest signals."""
    with home.catalog.reading() as work:
        found = signals.recent(work, limit)
        links = signals.links(work, [one.id for one in found])
    rows = [(one.id, one.kind, "; ".join(f"{kind} {ref}" for kind, ref in links[one.id]) or "waiting") for one in found]
    value = [{"signal": one.id, "kind": one.kind, "became": links[one.id]} for one in found]
    emit(value, as_json, lambda: table("Ledger", ("signal", "kind", "became"), rows))
