"""Repositories on servers: a password, private addresses, silence. With real git over HTTP."""

import fcntl
import functools
import socket
import threading
from collections.abc import Iterator
from http.server import CGIHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import Conflict, InvalidInput, Unavailable
from cluster.settings import SourcesSettings
from data_jobs.sources import gather
from data_jobs.sources.git import Repository
from tests.data_jobs.repositories import SETTINGS, Made, got, texts


class _Cgi(CGIHTTPRequestHandler):
    """git's own HTTP server, behind a password."""

    asked: list[str] = []

    def is_cgi(self) -> bool:
        self.cgi_info = "/cgi", "git/" + self.path.lstrip("/")
        return True

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Authorization", ""))
        if self.asked[-1] == "":
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            super().do_POST() if self.command == "POST" else super().do_GET()

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def served(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    cgi = tmp_path / "www" / "cgi"
    cgi.mkdir(parents=True)
    (cgi / "git").write_text("#!/bin/sh\nexec git http-backend\n")
    (cgi / "git").chmod(0o755)
    monkeypatch.setenv("GIT_PROJECT_ROOT", str(made.root.parent))
    monkeypatch.setenv("GIT_HTTP_EXPORT_ALL", "1")
    _Cgi.asked.clear()
    _Cgi.have_fork = False
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Cgi, directory=str(tmp_path / "www")))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_a_password_is_used_and_seen_nowhere(made: Made, tmp_path: Path, served: int) -> None:
    made.commit("First", a_txt="a")
    word = "pass" + "word-1"
    given = f"git+http://me:{word}@127.0.0.1:{served}/made/.git#files"
    heard: list[str] = []
    gathered = gather([given], tmp_path / "spool", SETTINGS, heard.append)
    assert texts(gathered) == {"a.txt": "a"}
    assert word not in repr(gathered) + repr(heard) + repr(Repository.parse(given, SETTINGS))
    assert not [path for path in (tmp_path / "spool").rglob("*") if path.is_file() and word.encode() in path.read_bytes()]
    with pytest.raises(Unavailable, match="git fetch failed: Authentication failed") as caught:
        got(tmp_path / "none", given.replace(f"me:{word}@", ""))
    assert word not in caught.value.message


def test_a_repository_at_a_private_address_is_refused(tmp_path: Path, served: int) -> None:
    with pytest.raises(InvalidInput, match=r"'127\.0\.0\.1' has the address 127\.0\.0\.1, which is not a public one"):
        got(tmp_path / "spool", f"git+http://127.0.0.1:{served}/made/.git", settings=SourcesSettings(allow_hosts=("127.0.0.1",)))
    assert not _Cgi.asked


def test_a_server_that_says_nothing_is_left_when_the_time_is_over(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        given = f"git+http://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(Unavailable, match=r"git fetch took longer than 0\.6 s"):
            got(tmp_path / "spool", given, settings=SETTINGS.model_copy(update={"seconds": 0.02}))


def test_a_git_that_outlived_its_run_is_waited_for(made: Made, tmp_path: Path) -> None:
    made.commit("First", a_txt="a")
    got(tmp_path / "spool", f"git+{made.root}")
    lock = next((tmp_path / "spool" / "git").glob("*/.lock"))
    with lock.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        with pytest.raises(Conflict, match=r"git of an earlier run is still fetching into .*; try again later"):
            got(tmp_path / "spool", f"git+{made.root}", settings=SETTINGS.model_copy(update={"seconds": 0.01}))
        threading.Timer(0.1, held.close).start()
        assert "a.txt" in texts(got(tmp_path / "spool", f"git+{made.root}"))
