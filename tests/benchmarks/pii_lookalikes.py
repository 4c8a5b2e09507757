"""What looks like personal data or a secret and is none: versions, dates, identifiers, digests, code, placeholders."""

import base64
import random
import string
import uuid

HEX = "0123456789abcdef"


def pick_from(pick: random.Random, alphabet: str, size: int) -> str:
    return "".join(pick.choices(alphabet, k=size))


def digits(pick: random.Random, size: int) -> str:
    return pick_from(pick, string.digits, size)


def lookalike(pick: random.Random) -> str:
    """What is none of it, however much it looks like one."""
    year, month, day = pick.randint(1990, 2030), pick.randint(1, 12), pick.randint(1, 28)
    word = pick.choice(["order", "invoice", "batch", "ticket", "case", "part"])
    forms = (
        f"released in version {pick.randint(1, 20)}.{pick.randint(0, 40)}.{pick.randint(0, 40)}.{pick.randint(0, 99)}",
        f"v{pick.randint(1, 9)}.{pick.randint(0, 40)}.{pick.randint(0, 9)}.{pick.randint(0, 9)} and {pick.randint(1, 9)}.2.0",
        f"Chrome/{pick.randint(80, 140)}.0.{pick.randint(4000, 7000)}.{pick.randint(10, 200)} Safari/537.36",
        f"pip install thing=={pick.randint(1, 9)}.{pick.randint(0, 40)}.{pick.randint(0, 9)}.{pick.randint(0, 9)}",
        f"on {year}-{month:02}-{day:02} at {pick.randint(0, 23):02}:{pick.randint(0, 59):02}:{pick.randint(0, 59):02}",
        f"{day:02}.{month:02}.{year} bis {day:02}.{month:02}.{year + 1}",
        f"{month:02}/{day:02}/{year}, {day}-{month}-{year}",
        f"{year}-{month:02}-{day:02}T{pick.randint(0, 23):02}:00:00.{digits(pick, 6)}Z",
        f"timestamp {pick.randint(10**9, 2 * 10**9)} ({pick.randint(10**12, 2 * 10**12)} ms)",
        f"ISBN 978-3-{pick.randint(10, 99)}-{digits(pick, 6)}-{digits(pick, 1)}",
        f"ISBN 978{digits(pick, 10)}",
        f"ISSN {digits(pick, 4)}-{digits(pick, 4)}, doi:10.{digits(pick, 4)}/s{digits(pick, 5)}-019-{digits(pick, 5)}-7",
        f"run {uuid.UUID(int=pick.getrandbits(128), version=4)} finished",
        f"commit {pick_from(pick, HEX, 40)}",
        f"at {pick_from(pick, HEX, 7)}..{pick_from(pick, HEX, 12)}",
        f"sha256:{pick_from(pick, HEX, 64)}",
        f"![dot](data:image/png;base64,{base64.b64encode(pick.randbytes(pick.randint(60, 600))).decode()})",
        f"const MASK = 0x{pick_from(pick, HEX, 16).upper()};",
        f"#define LIMIT {digits(pick, 10)}UL",
        f"{word} no. {pick.randint(10**7, 10**10)}",
        f"{word.title()} number: {digits(pick, 4)}-{digits(pick, 4)}-{digits(pick, 2)}",
        f"{word} {pick.choice('ABC')}{pick.choice('XYZ')}-{digits(pick, 6)}-{digits(pick, 4)}",
        f"{pick.uniform(-90, 90):.6f}, {pick.uniform(-180, 180):.6f}",
        f"{pick.uniform(0, 1):.16f}",
        f"{pick.randint(1, 999):,},{pick.randint(100, 999)}.{pick.randint(10, 99)} EUR",
        f"listening on 127.0.0.1:8080, 10.{pick.randint(0, 255)}.3.4, 192.168.{pick.randint(0, 255)}.1, 172.16.0.{pick.randint(1, 254)}",
        f"mask 255.255.255.0, 0.0.0.0/0, ::1, fe80::1%eth0, 2001:db8::{pick_from(pick, HEX, 4)}",
        f"example hosts 192.0.2.{pick.randint(1, 254)} and 198.51.100.{pick.randint(1, 254)}",
        f"OID 1.3.6.1.4.1.{pick.randint(100, 9999)}.1.2",
        f"MAC {':'.join(pick_from(pick, HEX, 2) for _ in range(6))}",
        f"took {pick.randint(0, 23):02}:{pick.randint(0, 59):02}:{pick.randint(0, 59):02}.{digits(pick, 3)}",
        "use std::collections::HashMap; abc::def(fed::cab)",
        f"git clone git@github.com:team/repo{pick.randint(1, 99)}.git",
        f"npm i @scope/pkg@{pick.randint(1, 9)}.{pick.randint(0, 9)}.{pick.randint(0, 9)} react@18.2.0",
        f"icon@{pick.randint(2, 3)}x.png and getty@tty{pick.randint(1, 9)}.service",
        "@app.route('/users') def f(x): return x @ y",
        "this@MainActivity.applicationContext",
        f"pages {pick.randint(100, 999)}-{pick.randint(1000, 1999)}, § {pick.randint(1, 99)}.{pick.randint(1, 9)}.4.1",
        f"range(0, {pick.randint(10**6, 10**9)}, {pick.randint(100, 999)})",
        f"0 1 0 0 1 1 0 {pick.randint(10, 99)} {pick.randint(100, 999)} 12",
        f"bytes {pick.randint(10**8, 10**10)} of {pick.randint(10**10, 10**11)}",
        f"port {pick.randint(1024, 65535)}, pid {pick.randint(1000, 999999)}, {pick.randint(100, 999)}x{pick.randint(100, 999)} px",
        f"{pick.randint(100, 999)} {pick.randint(100, 999)} {pick.randint(100, 999)} people",
        f"EAN 40{digits(pick, 11)}",
        f"account {digits(pick, 8)}, sort code {digits(pick, 2)}-{digits(pick, 2)}-{digits(pick, 2)}",
        f"SKU {digits(pick, 3)}-{digits(pick, 4)}",
        "password = input('Password: ')",
        "password: ${DB_PASSWORD}",
        "api_key = os.environ['API_KEY']",
        "token = tokens[i + 1]",
        "let token = lexer.next_token()?;",
        "password = get_password(user)",
        "secret_number = rand::thread_rng().gen_range(1..=100)",
        "API_KEY=<your key here>",
        '{"password": {"type": "string", "minLength": 8}}',
        "--password {{password}} --token {{token}}",
        "password_file: /etc/app/password.txt, token_count: 4096, max_tokens=1024",
        "The token is valid for one hour; a secret is not a password.",
        "Authorization: Bearer <token>",
        "postgres://user:password@localhost/db",
        "secretKeyRef: name: db-credentials",
        "class TokenStream<T> { private token: Token; password?: string }",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "sk-learn-contrib-and-other-packages",
        "key: monkey, cache_key = make_key(a, b), primary_key=True",
    )
    return pick.choice(forms)
