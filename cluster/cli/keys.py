"""API keys."""

from typing import Annotated

import typer

from cluster.catalog import users
from cluster.cli.console import Json, emit, home, note, out, table
from cluster.domain.parsing import parse
from cluster.domain.users import ApiKey, Role, new_key

app = typer.Typer(no_args_is_help=True)


@app.command()
def create(
    user: str,
    role: Annotated[str, typer.Option(help="user, curator or admin")] = "user",
    as_json: Json = False,
) -> None:
    """Make a key. Its text is shown this once."""
    checked: Role = parse(Role, role, "--role")
    text, record = new_key(user, checked)
    record = parse(ApiKey, record.model_dump(), "key")
    with home.catalog.transaction() as work:
        users.save_key(work, record)
    value = {"key": text, "prefix": record.prefix, "user": user, "role": role}
    emit(value, as_json, lambda: out.print(text, markup=False, highlight=False))


@app.command("list")
def list_keys(as_json: Json = False) -> None:
    """List keys by prefix."""
    with home.catalog.reading() as work:
        found = users.keys(work)
    rows = [(one.prefix, one.user, one.role, "revoked" if one.revoked else "", f"{one.created_at:%Y-%m-%d}") for one in found]
    value = [one.model_dump(mode="json", exclude={"hash"}) for one in found]
    emit(value, as_json, lambda: table("Keys", ("prefix", "user", "role", "", "made"), rows))


@app.command()
def revoke(prefix: str, as_json: Json = False) -> None:
    """Refuse a key from now on."""
    with home.catalog.transaction() as work:
        gone = users.revoke(work, prefix)
    emit({"revoked": gone.prefix}, as_json, lambda: note(f"{gone.prefix} is revoked"))
