"""Keys, logins and cookies: what they allow, and that what ends them ends them within a second."""

import time
from datetime import timedelta

import httpx
import pytest

from cluster import accounts
from cluster.accounts import COMMAND_LINE
from cluster.catalog import audit, sessions, users
from cluster.domain.base import now
from cluster.domain.users import Role, key_hash, new_key
from serve_app.identity import COOKIE, Identities
from tests.serve_app.conftest import House, chat

PASSWORD = "correct horse battery"


def person(house: House, name: str, role: Role = "user", password: str | None = PASSWORD) -> None:
    with house.catalog.transaction() as work:
        accounts.add_user(work, COMMAND_LINE, name, role, password)


def browser(house: House, scheme: str = "http") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(house.app), base_url=f"{scheme}://treadle", headers={"X-Treadle": "1"})


async def log_in(client: httpx.AsyncClient, name: str = "ada", password: str = PASSWORD) -> httpx.Response:
    return await client.post("/v1/auth/login", json={"user": name, "password": password})


def a_second_later(monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.monotonic() + 1.1
    monkeypatch.setattr("serve_app.identity.time.monotonic", lambda: later)


async def test_a_login_is_a_cookie_that_scripts_and_other_sites_cannot_use(house: House) -> None:
    person(house, "ada")
    async with browser(house, "https") as client:
        entered = await log_in(client)
        cookie = entered.headers["set-cookie"].lower()
        assert all(word in cookie for word in ("httponly", "samesite=strict", "secure", "path=/"))
        assert (await client.get("/v1/auth/me")).json()["how"] == "session"
        assert (await client.post("/v1/chat/completions", json=chat("linux"))).status_code == 200
        del client.headers["X-Treadle"]
        assert (await client.get("/v1/models")).status_code == 200
        refused = await client.post("/v1/chat/completions", json=chat("linux"))
    assert refused.status_code == 403
    assert "X-Treadle" in refused.json()["error"]["message"]


async def test_logging_out_ends_the_session_and_not_just_the_cookie(house: House) -> None:
    person(house, "ada")
    async with browser(house) as client:
        await log_in(client)
        kept = client.cookies[COOKIE]
        assert (await client.post("/v1/auth/logout")).json() == {"logged_out": True}
        client.cookies.set(COOKIE, kept)
        assert (await client.get("/v1/auth/me")).status_code == 401
    with house.catalog.reading() as work:
        assert sessions.find(work, key_hash(kept)) is None


@pytest.mark.parametrize(
    ("name", "password"), [("ada", "wrong password"), ("nobody", PASSWORD), ("keyed", PASSWORD), ("off", PASSWORD)]
)
async def test_a_login_that_is_not_right_says_the_same_whatever_is_wrong(house: House, name: str, password: str) -> None:
    person(house, "ada")
    person(house, "keyed", password=None)
    person(house, "off")
    with house.catalog.transaction() as work:
        accounts.change_user(work, COMMAND_LINE, "off", disabled=True)
    async with browser(house) as client:
        answer = await log_in(client, name, password)
    assert answer.status_code == 401
    assert answer.json()["error"]["message"].startswith("User or password is wrong")
    assert COOKIE not in answer.cookies


async def test_guessing_passwords_is_stopped_and_the_right_one_waits_too(house: House) -> None:
    person(house, "ada")
    async with browser(house) as client:
        for _ in range(10):
            assert (await log_in(client, password="guessed it?")).status_code == 401
        stopped = await log_in(client)
        assert stopped.status_code == 429
        assert 1 <= int(stopped.headers["retry-after"]) <= 60
    await house.gateway.books.write()
    with house.catalog.reading() as work:
        refused = [one for one in audit.recent(work, user="ada") if one.result == "refused"]
    assert len(refused) == 10
    assert all("guessed" not in one.model_dump_json() for one in refused)


async def test_changing_a_password_ends_every_other_session(house: House) -> None:
    person(house, "ada")
    async with browser(house) as here, browser(house) as there:
        await log_in(here)
        await log_in(there)
        wrong = await here.post("/v1/auth/password", json={"old": "not this one", "new": "another long one"})
        assert wrong.status_code == 401
        short = await here.post("/v1/auth/password", json={"old": PASSWORD, "new": "short"})
        assert short.status_code == 400
        done = await here.post("/v1/auth/password", json={"old": PASSWORD, "new": "another long one"})
        assert done.status_code == 200
        assert (await here.get("/v1/auth/me")).status_code == 200
        assert (await there.get("/v1/auth/me")).status_code == 401
        assert (await log_in(there, password="another long one")).status_code == 200


async def test_disabling_a_user_ends_their_sessions_and_keys_within_a_second(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    person(house, "ada")
    key = house.key("ada")
    async with browser(house) as page, house.client(key=key) as program, house.client("root", "admin") as root:
        await log_in(page)
        assert (await program.get("/v1/models")).status_code == (await page.get("/v1/models")).status_code == 200
        assert (await root.patch("/v1/users/ada", json={"disabled": True})).json()["disabled"]
        a_second_later(monkeypatch)
        assert (await program.get("/v1/models")).status_code == (await page.get("/v1/models")).status_code == 401


async def test_a_key_has_never_more_than_its_user_has_now(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    person(house, "ada", "admin")
    key = house.key("ada", "admin")
    async with house.client(key=key) as client:
        assert (await client.get("/v1/users")).status_code == 200
        with house.catalog.transaction() as work:
            accounts.change_user(work, COMMAND_LINE, "ada", role="user")
        a_second_later(monkeypatch)
        assert (await client.get("/v1/users")).status_code == 403
        assert (await client.get("/v1/auth/me")).json()["role"] == "user"


async def test_a_key_ends_at_its_moment_even_while_it_is_remembered(house: House) -> None:
    text, record = new_key("ada", "user", expires_at=now() + timedelta(seconds=0.3))
    with house.catalog.transaction() as work:
        users.save_key(work, record)
    seen = await house.gateway.identities.of({"authorization": f"Bearer {text}"}, {}, False)
    assert seen.user == "ada"
    until, _ = house.gateway.identities._found[seen.credential]
    assert until <= time.monotonic() + 0.3


async def test_a_key_makes_no_key_that_can_or_lives_more_than_itself(house: House) -> None:
    text, record = new_key("ada", "user", ["keys", "read"], expires_at=now() + timedelta(days=1))
    with house.catalog.transaction() as work:
        users.save_key(work, record)
    async with house.client(key=text) as client:
        assert (await client.post("/v1/keys", json={"scopes": ["chat"]})).status_code == 403
        made = (await client.post("/v1/keys", json={"days": 30})).json()
        assert made["scopes"] == ["keys", "read"]
        assert made["expires_at"] <= record.expires_at.isoformat().replace("+00:00", "Z")
        listed = (await client.get("/v1/keys")).json()["data"]
    assert {one["prefix"] for one in listed} == {record.prefix, made["prefix"]}
    assert all("hash" not in one and "key" not in one for one in listed)


async def test_when_a_key_was_last_used_is_written_once_a_minute(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    key = house.key("ada")
    async with house.client(key=key) as client:
        await client.get("/v1/models")
        await house.gateway.books.write()
        with house.catalog.reading() as work:
            first = users.find_key(work, key_hash(key))
        assert first is not None
        assert first.last_used_at is not None
        a_second_later(monkeypatch)
        await client.get("/v1/models")
        assert house.gateway.identities.take_used() == {}


async def test_only_what_exists_is_remembered(house: House) -> None:
    identities: Identities = house.gateway.identities
    async with house.client(key="tdl_wrong") as client:
        assert (await client.get("/v1/models")).status_code == 401
    assert identities._found == {}
