"""API keys."""

from typing import Annotated

import typer
from pydantic import Field

from cluster import accounts
from cluster.catalog import users
from cluster.cli.console import Json, emit, home, note, out, table
from cluster.domain.base import now
from cluster.domain.parsing import parse
from cluster.domain.users import ApiKey, Role, Scope

app = typer.Typer(no_args_is_help=True)
Days = Annotated[float, Field(gt=0, le=accounts.MOST_DAYS, allow_inf_nan=False)]


@app.command()
def create(
    user: str,
    role: Annotated[str, typer.Option(help="user, curator or admin")] = "user",
    scopes: Annotated[
        str | None,
        typer.Option(help="Some of chat, signals, read, keys and admin, by commas. Without it: all that the role has."),
    ] = None,
    expires: Annotated[float | None, typer.Option(help="Days from now after which it is refused.")] = None,
    as_json: Json = False,
) -> None:
    """Make a key. Its text is shown this once."""
    checked: Role = parse(Role, role, "--role")
    words = [word.strip() for word in (scopes or "").split(",") if word.strip()]
    held: list[Scope] | None = parse(list[Scope], words, "--scopes") if words else None
    days: float | None = parse(Days | None, expires, "--expires")
    with home.catalog.transaction() as work:
        text, record = accounts.add_key(work, accounts.COMMAND_LINE, user, checked, held, days)
    value = {"key": text, **record.model_dump(mode="json", include={"prefix", "user", "role", "scopes", "expires_at"})}
    emit(value, as_json, lambda: out.print(text, markup=False, highlight=False))


@app.command("list")
def list_keys(as_json: Json = False) -> None:
    """List keys by prefix."""
    with home.catalog.reading() as work:
        found = users.keys(work)
    value = [one.model_dump(mode="json", exclude={"hash"}) for one in found]
    columns = ("prefix", "user", "role", "scopes", "", "made", "ends", "last used")
    emit(value, as_json, lambda: table("Keys", columns, [_row(one) for one in found]))


def _row(key: ApiKey) -> tuple[str, ...]:
    over = key.expires_at is not None and key.expires_at <= now()
    state = "revoked" if key.revoked else "expired" if over else ""
    moments = [f"{moment:%Y-%m-%d}" if moment else "-" for moment in (key.created_at, key.expires_at)]
    used = f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "-"
    return key.prefix, key.user, key.role, " ".join(key.scopes or ("all",)), state, *moments, used


@app.command()
def revoke(prefix: str, as_json: Json = False) -> None:
    """Refuse a key from now on."""
    with home.catalog.transaction() as work:
        gone = accounts.revoke_key(work, accounts.COMMAND_LINE, prefix)
    emit({"revoked": gone.prefix}, as_json, lambda: note(f"{gone.prefix} is revoked"))
