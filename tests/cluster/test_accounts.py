"""Users, passwords, keys and the log of who changed them."""

from datetime import timedelta

import pytest

from cluster import accounts, passwords
from cluster.accounts import COMMAND_LINE
from cluster.catalog import Catalog, audit, live_settings, sessions, usage, users
from cluster.domain.audit import AuditEntry
from cluster.domain.base import now
from cluster.domain.live_settings import AgentSettings, ServiceSettings
from cluster.domain.users import Access, key_hash, new_key, new_session, scopes_of, weaker
from cluster.errors import Conflict, Forbidden, InvalidInput, NotFound, Unavailable

PASSWORD = "correct horse battery"


def test_a_password_is_kept_as_argon2id_and_each_hash_has_a_salt_of_its_own() -> None:
    one, other = passwords.hashed(PASSWORD), passwords.hashed(PASSWORD)
    assert one != other
    assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert PASSWORD not in one
    assert passwords.matches(PASSWORD, one)
    assert not passwords.matches(PASSWORD + " ", one)


@pytest.mark.parametrize("kept", [None, "", "$argon2id$broken", "plain"])
def test_what_is_no_hash_matches_nothing(kept: str | None) -> None:
    assert not passwords.matches(PASSWORD, kept)


@pytest.mark.parametrize("password", ["", "short", "x" * 257])
def test_a_password_that_is_too_short_or_too_long_is_refused(password: str) -> None:
    with pytest.raises(InvalidInput, match="10 to 256"):
        passwords.hashed(password)
    assert not passwords.matches(password, passwords.hashed(PASSWORD))


def test_a_password_is_not_in_the_catalog_nor_in_what_is_shown(catalog: Catalog) -> None:
    with catalog.transaction() as work:
        made = accounts.add_user(work, COMMAND_LINE, "ada", "user", PASSWORD)
        with pytest.raises(Conflict, match="'ada' already"):
            accounts.add_user(work, COMMAND_LINE, "ada", "user", None)
        assert users.get(work, "ada") == made
        with pytest.raises(NotFound, match="did you mean ada"):
            users.get(work, "adda")
        with pytest.raises(InvalidInput, match="'Ada Lovelace' is not a name"):
            accounts.add_user(work, COMMAND_LINE, "Ada Lovelace", "user", None)
        with pytest.raises(Conflict, match="command line"):
            accounts.add_user(work, COMMAND_LINE, "operator", "user", None)
        said = audit.recent(work)
    assert "argon2" not in repr(made)
    assert PASSWORD not in "".join(one.model_dump_json() for one in said)


def test_every_change_leaves_an_entry_in_the_transaction_that_makes_it(catalog: Catalog) -> None:
    with catalog.transaction() as work:
        accounts.add_user(work, COMMAND_LINE, "ada", "curator", None)
        accounts.change_user(work, COMMAND_LINE, "ada", disabled=True)
        _, key = accounts.add_key(work, COMMAND_LINE, "ada", "user", ["read"])
        accounts.revoke_key(work, COMMAND_LINE, key.prefix)

    def broken() -> None:
        with catalog.transaction() as work:
            accounts.add_user(work, COMMAND_LINE, "bob", "user", None)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    with catalog.reading() as work:
        entries = audit.recent(work)
    assert [(one.action, one.target) for one in reversed(entries)] == [
        ("user.add", "ada"),
        ("user.change", "ada"),
        ("key.add", key.prefix),
        ("key.revoke", key.prefix),
    ]
    assert all((one.user, one.origin, one.result) == ("operator", "cli", "done") for one in entries)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("statement", ["UPDATE audit SET action = 'nothing'", "DELETE FROM audit"])
def test_the_database_refuses_to_rewrite_the_log(settings, database, statement, request) -> None:
    catalog = Catalog(settings.catalog_url if database == "sqlite" else request.getfixturevalue("postgresql")).prepare()
    with catalog.transaction() as work:
        audit.record(work, AuditEntry(user="ada", action="login"))
    with pytest.raises(Unavailable, match="append-only"):
        with catalog.transaction() as work:
            work.connection.exec_driver_sql(statement)
    with catalog.reading() as work:
        assert audit.recent(work)[0].action == "login"
    catalog.close()


def test_what_postgresql_cannot_hold_is_said_to_whom_sent_it(postgresql: str) -> None:
    catalog = Catalog(postgresql).prepare()
    with pytest.raises(InvalidInput, match="cannot hold"), catalog.reading() as work:
        users.find(work, "a\x00b")
    catalog.close()


def test_a_key_of_a_role_has_no_scope_that_the_role_has_not(catalog: Catalog) -> None:
    assert scopes_of("user", ["chat", "admin"]) == {"chat"}
    assert weaker("curator", "user") == "user"
    with catalog.transaction() as work:
        with pytest.raises(Forbidden, match="cannot have the scope 'admin'"):
            accounts.add_key(work, COMMAND_LINE, "ada", "user", ["admin"])


def test_an_expired_key_and_an_expired_session_are_not_found(catalog: Catalog) -> None:
    text, key = new_key("ada", "user", expires_at=now() - timedelta(seconds=1))
    cookie, session = new_session("ada")
    with catalog.transaction() as work:
        users.save_key(work, key)
        sessions.save(work, session.model_copy(update={"expires_at": now() - timedelta(seconds=1)}))
        assert users.find_key(work, key_hash(text)) is None
        assert sessions.find(work, key_hash(cookie)) is None
        assert [one.prefix for one in users.keys(work, "ada")] == [key.prefix]
        assert users.keys(work, "bob") == []


def test_somebody_elses_key_cannot_be_revoked(catalog: Catalog) -> None:
    with catalog.transaction() as work:
        _, key = accounts.add_key(work, COMMAND_LINE, "ada", "user")
        with pytest.raises(NotFound):
            accounts.revoke_key(work, COMMAND_LINE, key.prefix, "bob")
        assert accounts.revoke_key(work, COMMAND_LINE, key.prefix, "ada").revoked


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_sessions_counts_and_live_settings_are_kept_by_both_databases(settings, database, request) -> None:
    catalog = Catalog(settings.catalog_url if database == "sqlite" else request.getfixturevalue("postgresql")).prepare()
    cookie, session = new_session("ada")
    end = now() + timedelta(hours=1)
    with catalog.transaction() as work:
        sessions.save(work, session)
        sessions.used(work, {session.hash: now()})
        for replica, amount in (("one", 3), ("one", 4), ("two", 10**12)):
            usage.write(work, replica, {("tokens/ada", "day/1"): (amount, end)})
        usage.write(work, "one", {("tokens/ada", "day/0"): (5, now() - timedelta(seconds=1))})
        usage.let_go(work)
        live_settings.save_service(work, ServiceSettings(default_agent="linux"))
        live_settings.save_agent(work, "linux", AgentSettings(visible=False))
        live_settings.save_agent(work, "linux", AgentSettings(access=Access(roles=("curator",))))
    with catalog.transaction() as work:
        found = sessions.find(work, key_hash(cookie))
        assert found is not None
        assert found.last_used_at is not None
        assert usage.of_others(work, "three") == {("tokens/ada", "day/1"): 10**12 + 4}
        assert usage.of_others(work, "two") == {("tokens/ada", "day/1"): 4}
        assert live_settings.of_service(work).default_agent == "linux"
        assert live_settings.of_agents(work) == {"linux": AgentSettings(access=Access(roles=("curator",)))}
        assert live_settings.of_agent(work, "other") == AgentSettings()
        sessions.end_all(work, "ada", but=session.hash)
        assert sessions.find(work, key_hash(cookie)) is not None
        sessions.end_all(work, "ada")
        assert sessions.find(work, key_hash(cookie)) is None
    catalog.close()
