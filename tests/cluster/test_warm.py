"""Warm processes: forks of one server that behave as the Python they stand in for."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster import warm
from cluster.settings import ROOT

pytestmark = pytest.mark.real
Start = Callable[..., subprocess.Popen[str]]
SCRIPT = """
import json, os, sys, time
said = {"arguments": sys.argv, "torch": "torch" in sys.modules, "ray": "ray.train" in sys.modules, "cwd": os.getcwd()}
said |= {"pid": os.getpid(), "parent": os.getppid(), "word": os.environ.get("WORD")}
print(json.dumps(said), flush=True)
if "stay" in sys.argv:
    time.sleep(60)
if "fail" in sys.argv:
    raise RuntimeError("as asked")
sys.exit(7 if "seven" in sys.argv else 0)
"""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("w")
    (place / "script.py").write_text(SCRIPT)
    yield place
    (place / warm.SOCKET).unlink(missing_ok=True)  # a server whose socket is gone ends
    deadline = time.monotonic() + 20
    while _servers(place) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _servers(place)


def _servers(place: Path) -> list[psutil.Process]:
    """The server, and forks that have not become anything else."""
    found = []
    for one in psutil.process_iter(["cmdline"]):
        words = one.info["cmdline"] or []
        if "cluster.warm.server" in words and str(place / warm.SOCKET) in words:
            found.append(one)
    return found


@pytest.fixture(scope="module")
def start(scratch: Path) -> Start:
    def started(*words: str, driver: bool = False) -> subprocess.Popen[str]:
        command = f"exec {warm.python(str(scratch))} {'-m script' if driver else scratch / 'script.py'} {' '.join(words)}"
        env = {**os.environ, "WORD": "given", "PYTHONPATH": f"{ROOT}{os.pathsep}{scratch}"}
        return subprocess.Popen(
            ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=scratch, env=env
        )

    return started


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    import json

    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def test_forks_of_one_server_take_arguments_place_and_environment(start: Start, scratch: Path) -> None:
    parents = set()
    for word in ("one", "two"):
        process = start(word)
        said = told(process)
        assert process.wait(60) == 0
        assert said["arguments"] == [str(scratch / "script.py"), word]
        assert (said["cwd"], said["word"], said["torch"]) == (str(scratch), "given", True)
        parents.add(said["parent"])
    assert len(parents) == 1


def test_the_status_and_an_errors_words_are_those_of_python(start: Start) -> None:
    seven = start("seven")
    assert seven.wait(60) == 7
    failed = start("fail")
    _, errors = failed.communicate(timeout=60)
    assert failed.returncode == 1
    assert "RuntimeError: as asked" in errors


def test_the_next_driver_has_imported_ray_and_others_have_not(start: Start, scratch: Path) -> None:
    first = start("seven", driver=True)
    said = told(first)
    assert first.wait(60) == 7
    server = psutil.Process(said["parent"])
    deadline = time.monotonic() + 60
    while not server.children() and time.monotonic() < deadline:
        time.sleep(0.1)
    (prepared,) = server.children()
    plain = start()
    assert told(plain)["ray"] is False
    assert plain.wait(60) == 0
    second = start("seven", driver=True)
    said = told(second)
    assert (said["ray"], said["pid"], said["word"], said["cwd"]) == (True, prepared.pid, "given", str(scratch))
    assert said["arguments"][1:] == ["seven"]
    assert second.wait(60) == 7
    server.kill()
    server.wait(30)
    again = start("seven", driver=True)
    assert told(again)["torch"] is True
    assert again.wait(60) == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_stands_in_for_it_takes_it_along(start: Start, scratch: Path, number: int) -> None:
    process = start("stay")
    child = psutil.Process(told(process)["pid"])
    os.kill(process.pid, number)
    process.wait(30)
    child.wait(30)
    assert not child.is_running()


def test_a_killed_process_is_told_of(start: Start, scratch: Path) -> None:
    process = start("stay")
    os.kill(told(process)["pid"], signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL


def test_a_cluster_of_somebody_else_has_plain_python() -> None:
    assert warm.python(None) == sys.executable
