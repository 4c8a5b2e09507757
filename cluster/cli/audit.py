"""The audit log: who changed users, keys and settings, who logged in, and what was refused."""

from typing import Annotated

import typer

from cluster.catalog import audit
from cluster.cli.console import Json, emit, home, table

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_entries(
    user: Annotated[str | None, typer.Option(help="Only what this user did.")] = None,
    action: Annotated[
        str | None, typer.Option(help="Only this: login, logout, user.add, key.revoke, agent.change, request…")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """List entries, the newest first."""
    with home.catalog.reading() as work:
        found = audit.recent(work, limit, user, action)
    rows = [(f"{one.at:%Y-%m-%d %H:%M:%S}", one.user, one.origin, one.action, one.target, one.result) for one in found]
    value = [one.model_dump(mode="json") for one in found]
    emit(value, as_json, lambda: table("Audit log", ("when (UTC)", "who", "from", "what", "on what", "result"), rows))
