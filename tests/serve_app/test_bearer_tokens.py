"""Tokens of others: who is believed, and every way in which one is not."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import SecretStr, ValidationError

from cluster import accounts
from cluster.accounts import COMMAND_LINE
from cluster.errors import Unauthenticated, Unavailable
from cluster.settings import JwtSettings
from serve_app.bearer_tokens import BearerTokens, KeySet
from serve_app.identity import Identities
from tests.quiet_server import Quiet, QuietServer
from tests.serve_app.conftest import House

SECRET = "s" * 32
ISSUER, AUDIENCE = "https://id.example.org", "treadle"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def claims(**changes: Any) -> dict[str, Any]:
    usual = {"sub": "ada", "role": "curator", "iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600}
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


def key_set(**keys: Any) -> dict[str, Any]:
    algorithms = {True: jwt.algorithms.RSAAlgorithm, False: jwt.algorithms.ECAlgorithm}
    found = []
    for kid, key in keys.items():
        made = algorithms[isinstance(key, rsa.RSAPrivateKey)].to_jwk(key.public_key(), as_dict=True)
        found.append({**made, "kid": kid, "use": "sig"})
    return {"keys": found}


def with_keys(file: Path, **keys: Any) -> JwtSettings:
    file.write_text(json.dumps(key_set(**keys)))
    return JwtSettings(jwks=str(file), issuer=ISSUER, audience=AUDIENCE)


def by_hand(header: dict[str, Any], body: dict[str, Any], secret: bytes) -> str:
    """A token that no library would sign."""

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    start = f"{part(header)}.{part(body)}"
    signature = hmac.new(secret, start.encode(), hashlib.sha256).digest()
    return f"{start}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"secret": "s" * 31}, "31 bytes and needs 32"),
        ({}, "one of secret, jwks and discover"),
        ({"secret": SECRET, "jwks": "keys.json"}, "one of secret, jwks and discover"),
        ({"jwks": "keys.json"}, "issuer and audience"),
        ({"jwks": "http://id.example.org/keys", "issuer": ISSUER, "audience": "a"}, "https only"),
        ({"jwks": "http://localhost.example.org/keys", "issuer": ISSUER, "audience": "a"}, "https only"),
        ({"discover": True, "issuer": "id.example.org", "audience": "a"}, "https address"),
    ],
)
def test_settings_that_would_believe_too_much_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        JwtSettings.model_validate(given)


def test_a_shared_secret_is_believed() -> None:
    tokens = BearerTokens(JwtSettings(secret=SecretStr(SECRET)))
    found = tokens.read(jwt.encode(claims(iss=None, aud=None), SECRET, "HS256"))
    assert (found.user, found.role) == ("ada", "curator")


@pytest.mark.parametrize(
    ("said", "role"),
    [
        (None, "user"),
        ("admin", "admin"),
        (["x", "curator", "user"], "curator"),
        ("owner", "user"),
        ({"admin": 1}, "user"),
        (7, "user"),
    ],
)
def test_a_role_that_is_none_is_a_users(said: Any, role: str) -> None:
    tokens = BearerTokens(JwtSettings(secret=SecretStr(SECRET)))
    assert tokens.read(jwt.encode(claims(role=said, iss=None, aud=None), SECRET, "HS256")).role == role


def test_people_whose_claim_is_no_name_never_become_one_another() -> None:
    tokens = BearerTokens(JwtSettings(secret=SecretStr(SECRET), user_claim="email"))
    found = {
        tokens.read(jwt.encode(claims(email=email, iss=None, aud=None), SECRET, "HS256")).user
        for email in ("Ada@example.org", "ada@Example.org", "ada|example.org", "ada@example.org")
    }
    assert len(found) == 4
    assert all(name.startswith("id-") and len(name) == 35 for name in found)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"iss": "https://evil.example.org"},
        {"iss": None},
        {"aud": "other"},
        {"aud": None},
        {"exp": 1e300},
        {"nbf": 1 << 33},  # in the year 2242: the suite may take its time between collecting and running
    ],
)
def test_a_claim_that_is_wrong_or_missing_is_not_believed(tmp_path: Path, changes: dict[str, Any]) -> None:
    tokens = BearerTokens(with_keys(tmp_path / "keys.json", one=RSA_KEY))
    token = jwt.encode(claims(**changes), RSA_KEY, "RS256", headers={"kid": "one"})
    with pytest.raises(Unauthenticated, match="The token cannot be used"):
        tokens.read(token)


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA_KEY, "RS256", "one"), (EC_KEY, "ES256", "two")])
def test_keys_of_a_file_are_believed(tmp_path: Path, key: Any, algorithm: str, kid: str) -> None:
    tokens = BearerTokens(with_keys(tmp_path / "keys.json", one=RSA_KEY, two=EC_KEY))
    assert tokens.read(jwt.encode(claims(), key, algorithm, headers={"kid": kid})).user == "ada"


def test_a_public_key_is_no_secret_and_no_algorithm_of_the_tokens_choice_is_used(tmp_path: Path) -> None:
    tokens = BearerTokens(with_keys(tmp_path / "keys.json", one=RSA_KEY, two=EC_KEY))
    pem = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    plain = f"{by_hand({'alg': 'none'}, claims(), b'').rsplit('.', 1)[0]}."
    forged = [
        by_hand({"alg": "HS256", "kid": "one"}, claims(), pem),
        by_hand({"alg": "RS256", "kid": "one"}, claims(), pem),
        plain,
        jwt.encode(claims(), RSA_KEY, "RS384", headers={"kid": "one"}),
        jwt.encode(claims(), RSA_KEY, "RS256", headers={"kid": "two"}),
        jwt.encode(claims(), OTHER_RSA, "RS256", headers={"kid": "one"}),
        jwt.encode(claims(), SECRET, "HS256"),
        "a.b.c",
        "..",
    ]
    for token in forged:
        with pytest.raises(Unauthenticated):
            tokens.read(token)
    secret = BearerTokens(JwtSettings(secret=SecretStr(SECRET)))
    for token in (jwt.encode(claims(), RSA_KEY, "RS256"), plain):
        with pytest.raises(Unauthenticated):
            secret.read(token)


def test_a_rotated_key_is_looked_up_and_made_up_ids_do_not_ask_the_issuer_each_time() -> None:
    present, asked = [0.0], []
    held = [key_set(old=RSA_KEY)]

    def fetch() -> Any:
        asked.append(present[0])
        return held[0]

    keys = KeySet(fetch, lambda: present[0])
    assert keys.key("old") is not None
    held[0] = key_set(new=OTHER_RSA)
    assert keys.key("new") is None  # asked a moment ago
    present[0] = 11.0
    assert keys.key("new") is not None
    assert keys.key("old") is None
    for number in range(100):
        keys.key(f"made-up-{number}")
    assert asked == [0.0, 11.0]
    present[0] = 400.0
    keys.key("new")
    assert asked == [0.0, 11.0, 400.0]


def test_while_the_issuer_does_not_answer_what_is_known_stays() -> None:
    present, down = [0.0], [False]

    def fetch() -> Any:
        if down[0]:
            raise Unavailable("The issuer is away.")
        return key_set(one=RSA_KEY)

    keys = KeySet(fetch, lambda: present[0])
    down[0] = True
    with pytest.raises(Unavailable, match="away"):
        keys.key("one")
    down[0], present[0] = False, 20.0
    assert keys.key("one") is not None
    down[0], present[0] = True, 1000.0
    assert keys.key("one") is not None
    assert keys.key(None) is not None


@pytest.mark.parametrize("document", [{}, [], {"keys": "x"}, {"keys": [{"kty": "oct", "k": "c2VjcmV0"}, 7, {"kty": "RSA"}]}])
def test_a_key_set_without_usable_keys_is_said(document: Any) -> None:
    with pytest.raises(Unavailable, match="no RS256 or ES256 key"):
        KeySet(lambda: document).key(None)


async def test_a_token_is_an_identity_with_its_role_and_its_user_can_be_disabled(house: House) -> None:
    identities = Identities(house.catalog, BearerTokens(JwtSettings(secret=SecretStr(SECRET))))
    token = jwt.encode(claims(iss=None, aud=None, role="admin"), SECRET, "HS256")
    headers = {"authorization": f"Bearer {token}"}
    found = await identities.of(headers, {}, True)
    assert (found.user, found.role, found.how) == ("ada", "admin", "token")
    assert "admin" in found.scopes
    with house.catalog.transaction() as work:
        accounts.add_user(work, COMMAND_LINE, "ada", "user", None)
    identities.forget(found.credential)
    assert (await identities.of(headers, {}, True)).role == "user"
    with house.catalog.transaction() as work:
        accounts.change_user(work, COMMAND_LINE, "ada", disabled=True)
    identities.forget(found.credential)
    with pytest.raises(Unauthenticated, match="disabled"):
        await identities.of(headers, {}, True)


class Issuer:
    """An issuer on a free port: ``answers`` says what it has at each path, a status or a body."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(Quiet, BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                found = outer.answers.get(self.path, 404)
                body = b"" if isinstance(found, int) else found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(found if isinstance(found, int) else 200)
                self.send_header("Location", "/keys")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = QuietServer(Handler)
        self.address = self._server.address

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


def test_keys_are_fetched_from_an_address_once_for_many_tokens(issuer: Issuer) -> None:
    issuer.answers["/keys"] = key_set(one=RSA_KEY)
    tokens = BearerTokens(JwtSettings(jwks=f"{issuer.address}/keys", issuer=ISSUER, audience=AUDIENCE))
    for _ in range(3):
        assert tokens.read(jwt.encode(claims(), RSA_KEY, "RS256", headers={"kid": "one"})).user == "ada"
    assert issuer.asked == ["/keys"]


def test_openid_connect_says_where_the_keys_are_and_only_the_issuers_own_are_taken(issuer: Issuer) -> None:
    place = "/.well-known/openid-configuration"
    issuer.answers |= {place: {"jwks_uri": f"{issuer.address}/keys"}, "/keys": key_set(one=EC_KEY)}
    told = JwtSettings(discover=True, issuer=issuer.address, audience=AUDIENCE)
    token = jwt.encode(claims(iss=issuer.address), EC_KEY, "ES256", headers={"kid": "one"})
    assert BearerTokens(told).read(token).user == "ada"
    issuer.answers[place] = {"jwks_uri": "https://evil.example.org/keys"}
    with pytest.raises(Unavailable, match=r"keys elsewhere \(https://evil.example.org/keys\)"):
        BearerTokens(told).read(token)
    assert issuer.asked == [place, "/keys", place]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (404, "answered 404"),
        (302, "answered 302"),
        (b"<html>", "no JSON"),
        (b" " * 300_000, "more than 262144 bytes"),
        ({}, "no RS256"),
    ],
)
def test_an_issuer_that_answers_something_else_is_unavailable(issuer: Issuer, answer: Any, says: str) -> None:
    issuer.answers["/other"] = answer
    tokens = BearerTokens(JwtSettings(jwks=f"{issuer.address}/other", issuer=ISSUER, audience=AUDIENCE))
    with pytest.raises(Unavailable, match=says):
        tokens.read(jwt.encode(claims(), RSA_KEY, "RS256", headers={"kid": "one"}))


def test_a_key_set_file_that_is_not_there_is_one_sentence() -> None:
    tokens = BearerTokens(JwtSettings(jwks="/nowhere/keys.json", issuer=ISSUER, audience=AUDIENCE))
    with pytest.raises(Unavailable, match="cannot be read: No such file"):
        tokens.read(jwt.encode(claims(), RSA_KEY, "RS256"))
