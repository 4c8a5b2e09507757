"""Users: who may log in, and as what."""

import sys
from typing import Annotated

import typer

from cluster import accounts
from cluster.accounts import COMMAND_LINE
from cluster.catalog import users
from cluster.cli.console import Json, emit, home, note, table
from cluster.domain.parsing import parse
from cluster.domain.users import Role, User
from cluster.errors import InvalidInput

app = typer.Typer(no_args_is_help=True)


@app.command()
def add(
    name: str,
    role: Annotated[str, typer.Option(help="user, curator or admin")] = "user",
    login: Annotated[
        bool, typer.Option(help="Ask for a password (on a pipe: its first line). Without, keys and tokens only.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Add a user."""
    checked: Role = parse(Role, role, "--role")
    given = _password() if login else None
    with home.catalog.transaction() as work:
        made = accounts.add_user(work, COMMAND_LINE, name, checked, given)
    emit(_shown(made), as_json, lambda: note(f"{name} is a {role}" + ("" if login else ", without a login")))


@app.command("list")
def list_users(as_json: Json = False) -> None:
    """List users."""
    with home.catalog.reading() as work:
        found = users.everyone(work)
    rows = [(one.name, one.role, _login(one), f"{one.created_at:%Y-%m-%d}") for one in found]
    emit([_shown(one) for one in found], as_json, lambda: table("Users", ("user", "role", "login", "made"), rows))


@app.command()
def password(name: str, as_json: Json = False) -> None:
    """Set a user's password, which logs them out everywhere. It is asked for; on a pipe it is the first line."""
    with home.catalog.reading() as work:
        users.get(work, name)
    given = _password()
    with home.catalog.transaction() as work:
        changed = accounts.change_user(work, COMMAND_LINE, name, password=given)
    emit(_shown(changed), as_json, lambda: note(f"{name} has a new password"))


@app.command()
def disable(
    name: str, undo: Annotated[bool, typer.Option("--undo", help="Let the user in again.")] = False, as_json: Json = False
) -> None:
    """Let a user in no more: their logins end, and their keys and tokens are refused within a second."""
    with home.catalog.transaction() as work:
        changed = accounts.change_user(work, COMMAND_LINE, name, disabled=not undo)
    emit(_shown(changed), as_json, lambda: note(f"{name} is {'let in again' if undo else 'disabled'}"))


@app.command("role")
def set_role(name: str, role: Annotated[str, typer.Argument(help="user, curator or admin")], as_json: Json = False) -> None:
    """Change a user's role. Their keys have never more than it."""
    checked: Role = parse(Role, role, "ROLE")
    with home.catalog.transaction() as work:
        changed = accounts.change_user(work, COMMAND_LINE, name, role=checked)
    emit(_shown(changed), as_json, lambda: note(f"{name} is a {role}"))


def _password() -> str:
    """Never an argument: those are in the shell's history, and other users of the machine see them."""
    if sys.stdin.isatty():
        typed: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return typed
    line = sys.stdin.readline().rstrip("\n")
    if not line:
        raise InvalidInput(
            "No password came in; type one, or send it as the first line: printf '%s\\n' \"$PASSWORD\" | treadle users …"
        )
    return line


def _login(user: User) -> str:
    return "disabled" if user.disabled else "password" if user.password else "-"


def _shown(user: User) -> dict[str, object]:
    return {**user.model_dump(mode="json", exclude={"password"}), "login": _login(user)}
