"""`treadle users …` and `treadle keys …` on a real catalog."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from cluster import passwords
from cluster.catalog import audit, users
from cluster.cli import audit as audit_commands
from cluster.cli import keys as key_commands
from cluster.cli import users as user_commands
from cluster.cli.app import app as root
from cluster.cli.console import Home
from cluster.domain.users import key_hash
from cluster.errors import Forbidden, InvalidInput

PASSWORD = "correct horse battery"


@pytest.fixture
def here(home, monkeypatch) -> Home:
    made = Home()
    for commands in (user_commands, key_commands, audit_commands):
        monkeypatch.setattr(commands, "home", made)
    return made


def run(app: Any, *words: str, said: str = "") -> Any:
    done = CliRunner().invoke(app, [*words, "--json"], input=said)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_user_is_added_changed_and_disabled_and_no_password_is_shown(here: Home) -> None:
    made = run(user_commands.app, "add", "ada", "--role", "curator", said=f"{PASSWORD}\n")
    assert (made["role"], made["login"]) == ("curator", "password")
    run(user_commands.app, "add", "robot", "--no-login")
    with here.catalog.reading() as work:
        assert passwords.matches(PASSWORD, users.get(work, "ada").password)
    run(user_commands.app, "password", "ada", said="another long one\n")
    run(user_commands.app, "role", "ada", "user")
    run(user_commands.app, "disable", "ada")
    listed = run(user_commands.app, "list")
    assert [(one["name"], one["role"], one["login"]) for one in listed] == [("ada", "user", "disabled"), ("robot", "user", "-")]
    assert "argon2" not in json.dumps([made, listed])
    assert run(user_commands.app, "disable", "ada", "--undo")["login"] == "password"
    assert [one["action"] for one in run(root, "audit", "list", "--limit", "2")] == ["user.change", "user.change"]
    assert "user.add" in CliRunner().invoke(root, ["audit", "list", "--action", "user.add"]).stdout
    with here.catalog.reading() as work:
        assert passwords.matches("another long one", users.get(work, "ada").password)
        assert {one.origin for one in audit.recent(work)} == {"cli"}


@pytest.mark.parametrize(("said", "why"), [("", "No password came in"), ("short\n", "10 to 256")])
def test_without_a_usable_password_nobody_is_added(here: Home, said: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        run(user_commands.app, "add", "ada", said=said)
    assert run(user_commands.app, "list") == []


def test_a_key_has_the_scopes_and_the_end_that_were_asked_for(here: Home) -> None:
    made = run(key_commands.app, "create", "ada", "--scopes", "read, chat", "--expires", "30")
    assert made["scopes"] == ["chat", "read"]
    with here.catalog.reading() as work:
        kept = users.find_key(work, key_hash(made["key"]))
    assert kept is not None
    assert kept.expires_at is not None
    assert abs((kept.expires_at - kept.created_at).days - 30) <= 1
    assert run(key_commands.app, "list")[0]["expires_at"] == made["expires_at"]
    assert run(key_commands.app, "revoke", made["prefix"]) == {"revoked": made["prefix"]}
    assert "revoked" in CliRunner().invoke(key_commands.app, ["list"]).stdout
    with pytest.raises(InvalidInput, match="--scopes"):
        run(key_commands.app, "create", "ada", "--scopes", "cook")
    with pytest.raises(Forbidden, match="'admin'"):
        run(key_commands.app, "create", "ada", "--scopes", "admin")
    with pytest.raises(InvalidInput, match="--expires"):
        run(key_commands.app, "create", "ada", "--expires", "-1")
