"""Every route × method × who asks. A route that is not in the table fails the first test; the others ask each of them for real.

A row: method, path, body, and what a user, another user, a curator and an admin get. ``{mine}`` in a path is something that belongs to
the user ``ada``. Nobody, an expired, a wrong and a revoked key, a disabled user and an over session get 401 everywhere but on the open
routes, and a key without the scope 403.
"""

from datetime import timedelta
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi.routing import APIRoute

from cluster import accounts
from cluster.accounts import COMMAND_LINE
from cluster.catalog import sessions, users
from cluster.domain.base import now
from cluster.domain.users import Role, Scope, new_key, new_session
from serve_app.identity import COOKIE, CSRF_HEADER
from tests.serve_app.conftest import House, chat, sentence


class Row(NamedTuple):
    method: str
    path: str
    body: Any
    statuses: tuple[int, int, int, int]
    """For the user whose things these are, another user, a curator, an admin."""
    scope: Scope | None = None
    """What a key needs; None: nothing but to be known."""


OPEN = {
    ("GET", "/health"),
    ("GET", "/health/ready"),
    ("GET", "/openapi.json"),
    ("POST", "/v1/auth/login"),
    ("POST", "/v1/voice/webhook"),
}
"""Open to everybody: they say nothing of anybody. The webhook asks for a signature instead of a key."""

EVERYBODY, ADMINS, OWNERS_AND_CURATORS = (200, 200, 200, 200), (403, 403, 403, 200), (200, 404, 200, 200)
TABLE = [
    Row("GET", "/health/detailed", None, ADMINS, "admin"),
    Row("GET", "/metrics", None, (403, 403, 200, 200), "read"),
    Row("POST", "/v1/completions", {"model": "linux", "prompt": "list"}, EVERYBODY, "chat"),
    Row("POST", "/v1/completions", {"model": "private", "prompt": "list"}, (404, 404, 404, 200), "chat"),
    Row("POST", "/v1/embeddings", {"model": "minilm", "input": "list"}, EVERYBODY, "chat"),
    Row("POST", "/tokenize", {"prompt": "list"}, EVERYBODY, "chat"),
    Row("POST", "/tokenize", {"model": "private", "prompt": "list"}, (404, 404, 404, 200), "chat"),
    Row("POST", "/detokenize", {"tokens": [1, 2]}, EVERYBODY, "chat"),
    Row("POST", "/api/chat", {**chat("linux"), "stream": False}, EVERYBODY, "chat"),
    Row("POST", "/api/chat", {**chat("private"), "stream": False}, (404, 404, 404, 200), "chat"),
    Row("POST", "/api/generate", {"model": "linux", "prompt": "list", "stream": False}, EVERYBODY, "chat"),
    Row("POST", "/api/generate", {"model": "private", "prompt": "list"}, (404, 404, 404, 200), "chat"),
    Row("POST", "/api/embed", {"model": "minilm", "input": "list"}, EVERYBODY, "chat"),
    Row("POST", "/api/show", {"model": "linux"}, EVERYBODY, "chat"),
    Row("POST", "/api/show", {"model": "private"}, (404, 404, 404, 200), "chat"),
    Row("GET", "/api/tags", None, EVERYBODY, "read"),
    Row("GET", "/api/version", None, EVERYBODY, "read"),
    Row("POST", "/v1/voice/chat/completions", chat("linux"), EVERYBODY, "chat"),
    Row("POST", "/v1/voice/chat/completions", chat("private"), (404, 404, 404, 200), "chat"),
    Row("GET", "/v1/models", None, EVERYBODY, "read"),
    Row("GET", "/v1/models/linux", None, EVERYBODY, "read"),
    Row("GET", "/v1/models/private", None, (404, 404, 404, 200), "read"),
    Row("POST", "/v1/chat/completions", chat("linux"), EVERYBODY, "chat"),
    Row("POST", "/v1/chat/completions", chat("private"), (404, 404, 404, 200), "chat"),
    Row(
        "POST", "/v1/chat/completions", chat("linux", treadle={"conversation_id": "{conversation}"}), (200, 404, 404, 404), "chat"
    ),
    Row("GET", "/v1/turns/{turn}", None, OWNERS_AND_CURATORS, "read"),
    Row("GET", "/v1/signals", None, EVERYBODY, "read"),
    Row("GET", "/v1/signals?turn_id={turn}", None, OWNERS_AND_CURATORS, "read"),
    Row("POST", "/v1/signals", {"turn_id": "{turn}", "kind": "thumb", "value": "up"}, (201, 404, 201, 201), "signals"),
    Row("POST", "/v1/auth/logout", None, EVERYBODY),
    Row("GET", "/v1/auth/me", None, EVERYBODY),
    Row("POST", "/v1/auth/password", {"old": "x", "new": "y"}, (409, 409, 409, 409)),
    Row("GET", "/v1/users", None, ADMINS, "admin"),
    Row("POST", "/v1/users", {"name": "new-{who}"}, (403, 403, 403, 201), "admin"),
    Row("PATCH", "/v1/users/zoe", {"role": "curator"}, ADMINS, "admin"),
    Row("GET", "/v1/keys", None, EVERYBODY, "keys"),
    Row("POST", "/v1/keys", {"scopes": ["read"]}, (201, 201, 201, 201), "keys"),
    Row("POST", "/v1/keys", {"user": "zoe"}, (403, 403, 403, 201), "keys"),
    Row("POST", "/v1/keys", {"role": "admin"}, (403, 403, 403, 201), "keys"),
    Row("DELETE", "/v1/keys/{key}", None, (200, 404, 404, 200), "keys"),
    Row("GET", "/v1/audit", None, ADMINS, "admin"),
    Row("GET", "/v1/agents", None, EVERYBODY, "read"),
    Row("GET", "/v1/agents/linux", None, EVERYBODY, "read"),
    Row("GET", "/v1/agents/private", None, (404, 404, 404, 200), "read"),
    Row("PATCH", "/v1/agents/linux", {"preload": True}, ADMINS, "admin"),
    Row("GET", "/v1/experiments", None, (403, 403, 200, 200), "read"),
    Row("POST", "/v1/experiments", {"challenger": "linux@9.9.9"}, (403, 403, 404, 404), "signals"),
    Row("GET", "/v1/experiments/none", None, (403, 403, 404, 404), "read"),
    Row("GET", "/v1/experiments/none/answers", None, (403, 403, 404, 404), "read"),
    Row("POST", "/v1/experiments/none/stop", {}, (403, 403, 404, 404), "signals"),
    Row("GET", "/v1/settings", None, ADMINS, "admin"),
    Row("PUT", "/v1/settings", {}, ADMINS, "admin"),
]
PEOPLE: tuple[tuple[str, Role], ...] = (("ada", "user"), ("bob", "user"), ("eve", "curator"), ("root", "admin"))
WITHOUT_A_BODY = ("GET", "HEAD", "DELETE", "OPTIONS")


def served(house: House) -> set[tuple[str, str]]:
    found = set()
    for route in house.app.routes:
        path = getattr(route, "path", "")
        for method in getattr(route, "methods", None) or {"ANY"}:
            if method != "HEAD":
                found.add((method, path))
    return found


def listed(house: House) -> set[tuple[str, str]]:
    """The routes that the table's rows reach."""
    found = set()
    for row in TABLE:
        path = row.path.partition("?")[0]
        for route in house.app.routes:
            if isinstance(route, APIRoute) and row.method in route.methods and route.path_regex.match(path):
                found.add((row.method, route.path))
                break
    return found


def test_every_route_is_in_the_table(house: House) -> None:
    missing = served(house) - listed(house) - OPEN
    assert not missing, f"{sorted(missing)} are served and not in the table; add a row that says who gets what."


async def things(house: House, who: str) -> dict[str, str]:
    """Things of ada's, new ones for each request, because some rows end them."""
    _text, key = new_key("ada", "user")
    with house.catalog.transaction() as work:
        users.save_key(work, key)
    async with house.client("ada") as client:
        about = (await client.post("/v1/chat/completions", json=chat("linux"))).json()["treadle"]
    return {"{turn}": about["turn_id"], "{conversation}": about["conversation_id"], "{key}": key.prefix, "{who}": who}


def filled(value: Any, given: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: filled(inner, given) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, given) for inner in value]
    if isinstance(value, str):
        for name, text in given.items():
            value = value.replace(name, text)
    return value


async def asked(client: httpx.AsyncClient, row: Row, given: dict[str, str]) -> httpx.Response:
    return await client.request(row.method, filled(row.path, given), json=filled(row.body, given))


@pytest.fixture
async def peopled(house: House) -> House:
    """The house with an agent that only ``zoe`` may use."""
    with house.catalog.transaction() as work:
        accounts.add_user(work, COMMAND_LINE, "zoe", "user", None)
    house.card("private")
    async with house.client("root", "admin") as root:
        assert (await root.patch("/v1/agents/private", json={"access": {"users": ["zoe"]}})).status_code == 200
    await house.gateway.following.look()
    return house


@pytest.mark.parametrize("number", range(4), ids=["owner", "other user", "curator", "admin"])
async def test_each_role_gets_what_the_table_says(peopled: House, number: int) -> None:
    user, role = PEOPLE[number]
    key = peopled.key(user, role)
    wrong = []
    for row in TABLE:
        given = await things(peopled, user)
        async with peopled.client(key=key) as client:
            answer = await asked(client, row, given)
        if answer.status_code != row.statuses[number]:
            wrong.append(
                f"{row.method} {row.path} {row.body}: {answer.status_code}, not {row.statuses[number]} ({answer.text[:200]})"
            )
        assert answer.is_success or sentence(answer)
    assert not wrong, "\n".join(wrong)


async def strangers(house: House) -> dict[str, dict[str, str]]:
    """Headers of everybody who has no business here."""
    expired, record = new_key("ada", "admin", expires_at=now() - timedelta(seconds=1))
    revoked, gone = new_key("ada", "admin")
    disabled, barred = new_key("mallory", "admin")
    over, session = new_session("ada")
    with house.catalog.transaction() as work:
        for key in (record, gone, barred):
            users.save_key(work, key)
        users.revoke(work, gone.prefix)
        accounts.add_user(work, COMMAND_LINE, "mallory", "admin", None)
        accounts.change_user(work, COMMAND_LINE, "mallory", disabled=True)
        sessions.save(work, session.model_copy(update={"expires_at": now() - timedelta(seconds=1)}))
    keys = {"expired": expired, "wrong": "tdl_wrong", "revoked": revoked, "disabled": disabled, "a token": "a.b.c"}
    bearers = {name: {"Authorization": f"Bearer {text}"} for name, text in keys.items()}
    cookies = {"over": {"Cookie": f"{COOKIE}={over}", CSRF_HEADER: "1"}, "made up": {"Cookie": f"{COOKIE}=x", CSRF_HEADER: "1"}}
    return {"nobody": {}, "basic": {"Authorization": "Basic YTpi"}, **bearers, **cookies}


async def test_who_is_not_known_gets_401_everywhere(peopled: House) -> None:
    given = await things(peopled, "nobody")
    wrong = []
    for name, headers in (await strangers(peopled)).items():
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(peopled.app), base_url="http://treadle", headers=headers
        ) as client:
            for row in TABLE:
                status = (await asked(client, row, given)).status_code
                if status != 401:
                    wrong.append(f"{name}: {row.method} {row.path}: {status}")
    assert not wrong, "\n".join(wrong)


async def test_a_key_without_the_scope_gets_403_and_one_with_it_alone_does_not(peopled: House) -> None:
    every: tuple[Scope, ...] = ("chat", "signals", "read", "keys", "admin")
    wrong = []
    for row in TABLE:
        given = await things(peopled, "scoped")
        for held in every:
            text, key = new_key("ada", "admin", [held])
            with peopled.catalog.transaction() as work:
                users.save_key(work, key)
            async with peopled.client(key=text) as client:
                status = (await asked(client, row, given)).status_code
            if (status == 403) != (row.scope not in (None, held)) and not (held == "keys" and row.path == "/v1/keys"):
                wrong.append(f"{row.method} {row.path} with {held}: {status}")
    assert not wrong, "\n".join(wrong)


async def test_the_open_routes_need_nobody_and_every_other_method_is_a_405(peopled: House) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(peopled.app), base_url="http://treadle") as nobody:
        assert (await nobody.get("/health")).status_code == 200
        assert (await nobody.get("/health/ready")).status_code == 200
        assert (await nobody.get("/openapi.json")).status_code == 200
        assert (await nobody.post("/v1/auth/login", json={"user": "zoe", "password": "x"})).status_code == 401
    methods: dict[str, set[str]] = {}
    for method, path in listed(peopled):
        methods.setdefault(path, set()).add(method)
    async with peopled.client("root", "admin") as root:
        for path, known in methods.items():
            for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - known:
                assert (await root.request(method, path)).status_code == 405, (method, path)
