"""Secrets for the benchmark of masking, by the forms their issuers publish, and the places where people leave them."""

import base64
import json
import random
import string
from collections.abc import Callable

from pii_carriers import PROSE, Case
from pii_lookalikes import HEX, digits, pick_from

ALNUM = string.ascii_letters + string.digits


def jwt(pick: random.Random) -> str:
    def part(value: dict[str, str]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return ".".join(
        [
            part({"alg": "HS256", "typ": "JWT"}),
            part({"sub": digits(pick, 10), "n": pick_from(pick, ALNUM, 8)}),
            pick_from(pick, ALNUM + "-_", 43),
        ]
    )


def pem(pick: random.Random, line_end: str = "\n") -> str:
    kind = pick.choice(["RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY"])
    body = line_end.join(pick_from(pick, ALNUM + "+/", 64) for _ in range(pick.randint(3, 26)))
    return line_end.join([f"-----BEGIN {kind}-----", body, pick_from(pick, ALNUM, 30) + "==", f"-----END {kind}-----"])


def token(pick: random.Random) -> str:
    upper = string.ascii_uppercase + string.digits
    forms: tuple[Callable[[], str], ...] = (
        lambda: pick.choice(["AKIA", "ASIA"]) + pick_from(pick, upper, 16),
        lambda: pick.choice(["ghp_", "gho_", "ghu_", "ghs_", "ghr_"]) + pick_from(pick, ALNUM, 36),
        lambda: "github_pat_" + pick_from(pick, ALNUM, 22) + "_" + pick_from(pick, ALNUM, 59),
        lambda: "glpat-" + pick_from(pick, ALNUM + "_-", 19) + "7",
        lambda: "xoxb-" + digits(pick, 12) + "-" + digits(pick, 12) + "-" + pick_from(pick, ALNUM, 24),
        lambda: "xoxp-" + digits(pick, 11) + "-" + digits(pick, 11) + "-" + digits(pick, 12) + "-" + pick_from(pick, HEX, 32),
        lambda: (
            "https://hooks.slack"
            + ".com/services/T"
            + pick_from(pick, upper, 8)
            + "/B"
            + pick_from(pick, upper, 8)
            + "/"
            + pick_from(pick, ALNUM, 24)
        ),
        lambda: pick.choice(["sk_live_", "rk_live_", "sk_test_"]) + pick_from(pick, ALNUM, pick.choice([24, 99])),
        lambda: "sk-" + pick_from(pick, ALNUM, 20) + "T3BlbkFJ" + pick_from(pick, ALNUM, 20),
        lambda: "sk-proj-" + pick_from(pick, ALNUM + "_-", 120) + "A1",
        lambda: "sk-ant-api03-" + pick_from(pick, ALNUM + "_-", 92) + "AA",
        lambda: "AIza" + pick_from(pick, ALNUM + "_-", 34) + "x",
        lambda: "ya29." + pick_from(pick, ALNUM + "_-", 80) + "x",
        lambda: "npm_" + pick_from(pick, ALNUM, 36),
        lambda: "pypi-AgEIcHlwaS5vcmc" + pick_from(pick, ALNUM + "_-", 100) + "x",
        lambda: "hf_" + pick_from(pick, string.ascii_letters, 34),
        lambda: "SG." + pick_from(pick, ALNUM, 22) + "." + pick_from(pick, ALNUM, 43),
        lambda: "SK" + pick_from(pick, HEX, 32),
        lambda: jwt(pick),
    )
    return pick.choice(forms)()


PASSWORD_MARKS = "!#%+*^~_-."


def password(pick: random.Random) -> str:
    word = pick.choice(["Winter", "blue", "Falcon", "kitchen", "Sommer", "tango", "Rhine", "maple"])
    return pick.choice(
        [
            f"{word}{pick.randint(10, 2099)}{pick.choice(PASSWORD_MARKS[:6])}",
            pick_from(pick, ALNUM, pick.randint(10, 24)) + "7q",
            pick_from(pick, ALNUM + PASSWORD_MARKS, pick.randint(10, 20)) + "4x",
            f"{word.lower()}-{pick_from(pick, ALNUM, 6)}-{pick.randint(10, 99)}",
            word[:2] + pick.choice(["@", "$", "!"]) + word[2:] + str(pick.randint(100, 999)),
        ]
    )


KEY_NAMES = (
    "password passwd DB_PASSWORD db_password api_key apiKey API_KEY secret SECRET_KEY client_secret access_token auth_token "
    "aws_secret_access_key"
).split()


def assigned(pick: random.Random) -> Case:
    name, plain = pick.choice(KEY_NAMES), pick_from(pick, ALNUM, pick.randint(16, 40)) + "9Zk"
    value = password(pick) if "pass" in name.lower() else plain
    forms = (
        f'{name} = "{value}"',
        f"{name}='{value}'",
        f"{name}={value}",
        f"export {name.upper()}={value}",
        f"{name}: {value}",
        f'{name}: "{value}"',
        f'{{"{name}": "{value}", "port": 5432}}',
        f'"{{\\"{name}\\": \\"{value}\\"}}"',
        f"conn = connect(host='db1', {name}='{value}', timeout=5)",
        f"The {name.replace('_', ' ')} is {value}",
        f"| {name} | {value} |",
        f"<{name}>{value}</{name}>",
        f"**{name}:** `{value}`",
        f"mytool --{name.replace('_', '-')} {value} --verbose",
        f"mytool --{name.replace('_', '-')}={value} run",
        f'os.environ["{name.upper()}"] = "{value}"',
        f"const {name} = '{value}';",
        f'    {name} := "{value}"',
        f'let {name}: &str = "{value}";',
    )
    return Case("secret", value, pick.choice(forms))


def connection(pick: random.Random) -> Case:
    secret = pick_from(pick, ALNUM + "!%+*^~_-.", pick.randint(8, 20)) + "3d"
    forms = (
        f"postgres://app:{secret}@db.internal:5432/orders",
        f'DATABASE_URL="postgresql+psycopg2://svc_user:{secret}@10.0.4.7/main?sslmode=require"',
        f"mongodb+srv://root:{secret}@cluster0.ab1cd.mongodb.net/test",
        f"redis://:{secret}@cache:6379/0",
        f"amqp://worker:{secret}@mq.example.org:5671/vhost",
        f"https://deploy:{secret}@git.example.org/team/repo.git",
        f"Server=tcp:db1,1433;Database=app;User ID=sa;Password={secret};Encrypt=True;",
        f"jdbc:mysql://db1:3306/app?user=root&password={secret.replace('%', '')}&useSSL=false",
        f"curl -u admin:{secret} https://api.example.org/v1/jobs",
    )
    text = pick.choice(forms)
    return Case("secret", secret if secret in text else secret.replace("%", ""), text)


def header(pick: random.Random) -> Case:
    secret = pick_from(pick, ALNUM + "-_", pick.randint(24, 64)) + "0a"
    basic = base64.b64encode(f"user:{password(pick)}".encode()).decode()
    azure = base64.b64encode(pick.randbytes(64)).decode()
    return pick.choice(
        [
            Case("secret", secret, f"Authorization: Bearer {secret}"),
            Case("secret", secret, f'curl -H "Authorization: Bearer {secret}" https://api.example.org/v1'),
            Case("secret", secret, f"headers = {{'Authorization': 'Bearer {secret}'}}"),
            Case("secret", basic, f"Authorization: Basic {basic}"),
            Case("secret", secret, f"Authorization: token {secret}"),
            Case("secret", secret, f"X-Api-Key: {secret}"),
            Case(
                "secret",
                azure,
                f"DefaultEndpointsProtocol=https;AccountName=st1;AccountKey={azure};EndpointSuffix=core.windows.net",
            ),
        ]
    )


def key_block(pick: random.Random) -> Case:
    if pick.random() < 0.6:
        block = pem(pick)
        return Case(
            "secret",
            block.split("\n")[2],
            pick.choice(
                [block, f"Here is my key:\n{block}\nkeep it safe", "\n".join("    " + line for line in block.split("\n"))]
            ),
        )
    block = pem(pick, "\\n")
    return Case("secret", block.split("\\n")[2], f'{{"type": "service_account", "private_key": "{block}\\n", "client_id": "1"}}')


def token_case(pick: random.Random) -> Case:
    value = token(pick)
    carriers = (
        *PROSE,
        "token: {}",
        "export KEY={}",
        "Use {} for the staging account.",
        "curl -H 'X-Token: {}' https://example.org",
        'log: "done\\n{}\\n"',
    )
    return Case("secret", value, pick.choice([one for one in carriers if one not in ("#{}#",)]).format(value))
