"""Secrets are found by form and by name, in every place people leave them; what stands for one, and code about them, stays.

Every secret here is made on the spot.
"""

import random
import string

import pytest

from data_jobs.credentials import find_secrets
from data_jobs.pii import bytes_view

ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
PICK = random.Random(17)


def rnd(size: int, alphabet: str = ALNUM) -> str:
    return "".join(PICK.choices(alphabet, k=size - 2)) + ("1a" if "1" in alphabet and "a" in alphabet else alphabet[0] * 2)


def left(text: str) -> str:
    """The text without the secrets that were found."""
    view = bytes_view(text)
    for one in sorted(find_secrets(text, view), reverse=True):
        text = text[: one.start] + "·" * (one.end - one.start) + text[one.end :]
    return text


TOKENS = {
    "aws": "AK" + "IA" + rnd(16, string.ascii_uppercase + string.digits),
    "github": "gh" + "p_" + rnd(36),
    "github_fine": "github" + "_pat_" + rnd(22) + "_" + rnd(59),
    "gitlab": "gl" + "pat-" + rnd(20),
    "slack": "xo" + "xb-" + rnd(12, string.digits) + "-" + rnd(12, string.digits) + "-" + rnd(24),
    "slack_hook": "hooks.slack" + ".com/services/T" + rnd(9) + "/B" + rnd(9) + "/" + rnd(24),
    "stripe": "sk" + "_live_" + rnd(24),
    "openai": "s" + "k-" + rnd(48),
    "openai_project": "s" + "k-proj-" + rnd(60, ALNUM + "_-"),
    "google": "AI" + "za" + rnd(35),
    "npm": "np" + "m_" + rnd(36),
    "pypi": "py" + "pi-AgEIcHlwaS5vcmc" + rnd(60),
    "hugging_face": "h" + "f_" + rnd(34, string.ascii_letters),
    "sendgrid": "S" + "G." + rnd(22) + "." + rnd(43),
    "twilio": "S" + "K" + rnd(32, HEX),
    "jwt": "ey" + "J" + rnd(30) + ".ey" + "J" + rnd(40) + "." + rnd(43),
    "telegram": rnd(9, string.digits) + ":A" + "A" + rnd(33),
    "azure_client": "x" + "8Q8" + "Q~" + rnd(34),
}


@pytest.mark.parametrize("kind", sorted(TOKENS))
def test_tokens_are_found_whatever_stands_around_them(kind: str) -> None:
    token = TOKENS[kind]
    for text in (
        token,
        f"use {token}.",
        f'"{token}"',
        f"({token})",
        f"x={token}&y=1",
        f"done\\n{token}\\n",
        f"a,{token},b",
        f"`{token}`",
        f"é {token}",
    ):
        assert token not in left(text), text


SECRET = rnd(28)
WORD = "hun" + "ter2"


@pytest.mark.parametrize(
    "text",
    [
        "password = '{}'",
        'DB_PASSWORD="{}"',
        "export API_KEY={}",
        "api-key: {}",
        '{{"clientSecret": "{}", "port": 1}}',
        r"{{\"access_token\": \"{}\"}}",
        "conn(password='{}', port=5432)",
        "Server=db;Password={};Encrypt=True",
        "jdbc:mysql://h/db?user=u&password={}&ssl=1",
        "postgres://app:{}@db:5432/x",
        "redis://:{}@cache",
        "Authorization: Bearer {}",
        "-H 'authorization: token {}'",
        "curl -u admin:{} https://x.org",
        "tool --token {} run",
        "tool --password={} run",
        "<password>{}</password>",
        '<add key="Password" value="{}"/>',
        "| password | {} |",
        "**Password:** `{}`",
        "the API key for staging is {}",
        "Password (prod): {}",
        'os.environ["SECRET_KEY"] = "{}"',
        'let token: &str = "{}";',
        "machine h login u password {}",
        "_authToken={}",
        "Passwort: {}",
        "mot de passe : {}",
        "contraseña: {}",
        "credentials: admin / {}",
    ],
)
def test_values_are_found_by_the_name_before_them(text: str) -> None:
    for value in (SECRET, "Tr0ub" + "4dor+3x"):
        assert value not in left(text.format(value))
        assert left(text.format(value)).count("·") == len(value)


@pytest.mark.parametrize(
    "text", ["password: {}", "password={}", "PGPASSWORD={} psql", "my password is {}", "passwd = '{}'", "login: {}"]
)
def test_a_short_password_is_found_after_its_name_only(text: str) -> None:
    assert (WORD in left(text.format(WORD))) == text.startswith("login")


def key_block(kind: str, line_end: str) -> str:
    body = line_end.join(rnd(64, ALNUM + "+/") for _ in range(5))
    return line_end.join([f"-----BEGIN {kind}-----", body, f"-----END {kind}-----"])


@pytest.mark.parametrize("kind", ["RSA PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"])
def test_private_keys_go_as_a_whole(kind: str) -> None:
    for block in (key_block(kind, "\n"), key_block(kind, "\\n"), key_block(kind, "\n> "), key_block(kind, " ")):
        assert left(f"before\n{block}\nafter") == f"before\n{'·' * len(block)}\nafter"


def test_a_private_key_without_its_end_goes_and_the_text_after_it_stays() -> None:
    block = key_block("PRIVATE KEY", "\n").rpartition("\n")[0]
    assert left(f"{block}\nand so on, it says") == "·" * len(block) + "\nand so on, it says"


def test_public_keys_certificates_and_talk_of_keys_stay() -> None:
    for text in (
        key_block("PUBLIC KEY", "\n"),
        key_block("CERTIFICATE", "\n"),
        "A file that begins with -----BEGIN PRIVATE KEY----- holds a key.",
    ):
        assert left(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "password = input('Password: ')",
        "password = get_password(user)",
        "password: ${DB_PASSWORD}",
        "PASSWORD=$DB_PASSWORD",
        "password={{ vault.password }}",
        "api_key = os.environ['API_KEY']",
        "api_key: <your key>",
        "API_KEY=your-api-key-here",
        "token = tokens[i + 1]",
        "let token = lexer.next_token()?;",
        "secret_number = rand::thread_rng().gen_range(1..=100)",
        "password: String, secret: Option<Vec<u8>>",
        "def login(user, password=None, token=''):",
        '{"password": {"type": "string"}}',
        '{"password": "required", "label": "Password"}',
        '"password": "Enter your new password twice"',
        "password_file: /etc/app/password.txt",
        "token_count: 4096, max_tokens=1024, token_type: bearer",
        "secretName: db-credentials",
        "The token is valid for one hour; a secret is not a password.",
        "Authorization: Bearer <token>",
        "Authorization: Bearer $TOKEN",
        "postgres://user:password@localhost/db",
        "http://localhost:8080/path/@scope",
        "https://user@example.org/x",
        "tool --password {{password}} --with-password --verbose",
        "[secret-number]: ch02-guessing.html#secret",
        "sk-learn-contrib-and-other-packages",
        "key: monkey, cache_key = make_key(a), primary_key=True",
        "sessionId=0x14b51bc8506039a",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b",
        "import secrets; from tokenize import TokenInfo",
        "test_tokenize.py: TokenizeTest.test_non_ascii_identifiers",
    ],
)
def test_what_stands_for_a_secret_and_code_about_secrets_stay(text: str) -> None:
    assert left(text) == text


@pytest.mark.parametrize(
    "unit",
    [
        "password=",
        "token: aB3",
        'password="',
        "-----BEGIN PRIVATE KEY-----",
        "a://b:",
        "eyJhbGciOi.",
        "password=a-bc-",
        "password: aaa_bbb_",
    ],
)
def test_work_grows_no_faster_than_the_text(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in characters that the patterns of Python are given to look at, which is what they could be slow in."""
    import data_jobs.credentials as module

    def looked_at(size: int) -> int:
        seen = 0
        real = module._SIGN

        class Counting:
            def match(self, view: bytes, start: int, end: int) -> object:
                nonlocal seen
                seen += min(end, len(view)) - start
                return real.match(view, start, end)

        monkeypatch.setattr(module, "_SIGN", Counting())
        text = (unit * (size // len(unit) + 1))[:size] + "!"
        for one in find_secrets(text, bytes_view(text)):
            seen += one.end - one.start
        monkeypatch.setattr(module, "_SIGN", real)
        return seen

    assert looked_at(40_000) <= 4.4 * looked_at(10_000) + 1000
