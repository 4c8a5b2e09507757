"""What all tests share: a home of their own, parts opened on it, and one Ray token.

A process cannot change its Ray token once it has met a Ray, and every package of tests starts a Ray of its own: so all of them take the
token that is made here.
"""

import json
import os
import secrets
import shutil
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Callable, Iterator

import hypothesis
import pytest

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog
from cluster.domain.agents import Agent
from cluster.settings import Settings, load_settings
from tests.benchmarks.laptop import write_settings
from tests.quiet_server import Quiet, QuietServer

# The same examples in every run: a change fails its tests, and chance does not.
hypothesis.settings.register_profile("treadle", derandomize=True, deadline=None)
hypothesis.settings.load_profile("treadle")
TOKEN_FOLDER = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    folder = config.stash[TOKEN_FOLDER] = tempfile.mkdtemp(prefix="treadle-tests-")
    token = Path(folder) / "ray_token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    os.environ.pop("RAY_ADDRESS", None)


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[TOKEN_FOLDER], ignore_errors=True)


@pytest.fixture(scope="session")
def settings_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings for this machine, every port a free one."""
    return write_settings(tmp_path_factory.mktemp("settings"))


@pytest.fixture
def home(tmp_path: Path, settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh TREADLE_HOME with free ports."""
    for name in [name for name in os.environ if name.startswith("TREADLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TREADLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TREADLE_SETTINGS", str(settings_file))
    return tmp_path / "home"


@pytest.fixture
def settings(home: Path) -> Settings:
    return load_settings()


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    opened = Catalog(settings.catalog_url).prepare()
    yield opened
    opened.close()


@pytest.fixture
def artifacts(settings: Settings) -> Artifacts:
    return Artifacts(settings.artifacts_url, settings.home / "cache")


@pytest.fixture
def agent() -> Agent:
    return Agent(name="linux", prompt="Write one shell command.")


class ChatServer:
    """A server that speaks OpenAI's chat completions on a free port and says what the test wants: ``answer`` takes a request's body and
    returns a text, or a status with a body (and headers). Bodies and headers that came are in ``requests`` and ``headers``."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Callable[[dict[str, Any]], Any] = lambda request: "yes"
        self.usage: dict[str, int] | None = {"prompt_tokens": 100, "completion_tokens": 20}
        self.slow = 0.0
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(Quiet, BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, value, headers = outer.met(self.path, body, dict(self.headers))
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                for name, text in {"Content-Type": "application/json", **headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(data)

        self._server = QuietServer(Handler)
        self.endpoint = f"{self._server.address}/v1"

    def met(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        with self._lock:
            self.requests.append(body)
            self.headers.append(headers)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            time.sleep(self.slow)
            if path != "/v1/chat/completions":
                return 404, {"error": {"message": f"no {path}"}}, {}
            made = self.answer(body)
        finally:
            with self._lock:
                self.at_once -= 1
        if isinstance(made, str):
            choice = {"message": {"role": "assistant", "content": made}, "finish_reason": "stop"}
            return 200, {"choices": [choice], **({"usage": self.usage} if self.usage else {})}, {}
        status, value, *more = made
        return status, value, more[0] if more else {}

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    server = ChatServer()
    yield server
    server.close()
