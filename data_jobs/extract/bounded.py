"""Extraction in a bounded process: a file that hangs, eats memory or crashes its parser is set aside, and the rest goes on.

One extraction server per Ray worker (``python -m data_jobs.extract.server``) keeps a child that reads one file after another, each
within its own limits; a file that breaks them costs itself and that child. Stops accidents and resource bombs; it is no security
boundary without bubblewrap: the child can still read what its user can read.
"""

import atexit
import contextlib
import json
import os
import stat
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_jobs.extract import frames
from data_jobs.extract.part import BY_REASON, Crashed, Options, OutOfMemory, Part, Unopened, Unreadable

_ROOT = Path(__file__).resolve().parents[2]


class Extractor:
    """The client's side: one server process, asked for one file at a time. Close it, or let the interpreter's end do it."""

    def __init__(self, seconds: float, megabytes: int) -> None:
        self.seconds, self.megabytes = seconds, megabytes
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def extract(self, path: str, start: int = 0, end: int | None = None, options: Options = Options()) -> list[Part]:
        """The documents in the file at ``path``, or in its bytes from ``start`` up to ``end``.

        Raises Unreadable (its class says the reason) and nothing else for a bad file. A file larger than the memory bound is
        refused before it is read.
        """
        self._check(path, start, end)
        limits = {"seconds": self.seconds, "megabytes": self.megabytes}
        with self._lock:
            answer = self._ask({"path": path, "start": start, "end": end, "options": asdict(options), **limits})
        if "reason" in answer:
            raise BY_REASON.get(answer["reason"], Unreadable)(answer["detail"])
        return answer["parts"]

    def _check(self, path: str, start: int, end: int | None) -> None:
        try:
            found = os.stat(path)
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or error
            raise Unopened(f"it cannot be opened ({said}); check that it is there and its permissions") from None
        if not stat.S_ISREG(found.st_mode):
            raise Unopened("it is no regular file (a directory, a pipe or a device); give a file")
        size = (found.st_size if end is None else min(end, found.st_size)) - start
        if size > self.megabytes << 20:
            raise OutOfMemory(f"it has {size / (1 << 20):.0f} MB and {self._bound()}")

    def _bound(self) -> str:
        return f"its extraction may use {self.megabytes} MB; split it or raise megabytes_per_file"

    def close(self) -> None:
        """Ends the server process."""
        server, self._server = self._server, None
        if server is None:
            return
        for pipe in (server.stdin, server.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            server.wait(timeout=2)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        for _attempt in range(2):
            server = self._running()
            assert server.stdin is not None
            assert server.stdout is not None
            try:
                server.stdin.write(json.dumps(request).encode() + b"\n")
                server.stdin.flush()
                answer = frames.received(server.stdout)
            except BrokenPipeError:
                answer = None
            except ValueError:
                return {"reason": Crashed.reason, "detail": "its parser gave no sensible answer; export the file again"}
            if answer:
                return answer
            self.close()
        return {"reason": Crashed.reason, "detail": "its extraction ended the extraction server twice; look at the file"}

    def _running(self) -> subprocess.Popen[bytes]:
        if self._server is None or self._server.poll() is not None:
            env = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-m", "data_jobs.extract.server"]
            self._server = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=frames.BLOCK, env=env
            )
        return self._server
