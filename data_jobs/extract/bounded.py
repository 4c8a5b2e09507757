"""Extraction in a bounded process: a file that hangs, eats memory or crashes its parser is set aside, and the rest goes on.

One extraction server per Ray worker (``python -m data_jobs.extract.bounded``) imports the parsers once and forks a child for each
file, so a file costs milliseconds and a broken one takes nothing with it. The child's address space, processor time and
wall time are limited, and it can write no file. Stops accidents and resource bombs; it is no security boundary without bubblewrap:
the child can still read what its user can read.
"""

import atexit
import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from cluster.errors import one_sentence
from data_jobs.extract import FORMATS
from data_jobs.extract.part import BY_REASON, Crashed, Options, OutOfMemory, Part, TimedOut, UnknownFormat, Unopened, Unreadable

_ROOT = Path(__file__).resolve().parents[2]
_BLOCK = 1 << 20
_NO_MEMORY = 77
"""Exit status of a child that ran out of memory."""


class Extractor:
    """The client's side: one server process, asked for one file at a time. Close it, or let the interpreter's end do it."""

    def __init__(self, seconds: float, megabytes: int) -> None:
        self.seconds, self.megabytes = seconds, megabytes
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def extract(self, path: str, start: int = 0, end: int | None = None, options: Options = Options()) -> list[Part]:
        """The documents in the file at ``path``. Raises Unreadable (its class says the reason) and nothing else for a bad file."""
        if Path(path).suffix.lower() not in FORMATS:
            raise UnknownFormat(f"the ending '{Path(path).suffix}' is not known; known are {', '.join(sorted(FORMATS))}")
        with self._lock:
            answer = self._ask({"path": path, "seconds": self.seconds, "megabytes": self.megabytes})
        if "reason" in answer:
            raise BY_REASON[answer["reason"]](answer["detail"])
        return [Part(**part) for part in answer["parts"]]

    def close(self) -> None:
        """Ends the server process."""
        server, self._server = self._server, None
        if server is not None and server.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                server.stdin.close()
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
                line = server.stdout.readline()
            except BrokenPipeError:
                line = b""
            if line.endswith(b"\n"):
                answer: dict[str, Any] = json.loads(line)
                return answer
            self.close()
        return {"reason": Crashed.reason, "detail": "its extraction ended the extraction server twice; look at the file"}

    def _running(self) -> subprocess.Popen[bytes]:
        if self._server is None or self._server.poll() is not None:
            env = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-m", "data_jobs.extract.bounded"]
            self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        return self._server


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """The server: a line of JSON in, a line of JSON out, until the client goes away."""
    for line in requests:
        request = json.loads(line)
        _import_parsers(Path(request["path"]).suffix.lower())
        answers.write(_forked(request) + b"\n")
        answers.flush()


def _import_parsers(suffix: str) -> None:
    """Imports in the server what the child would import, so that it is done once."""
    if suffix in (".html", ".htm"):
        import trafilatura  # noqa: F401
    elif suffix == ".docx":
        import docx  # noqa: F401
    elif suffix == ".pdf":
        import pypdfium2  # noqa: F401


def _forked(request: dict[str, Any]) -> bytes:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _extract_and_exit(request, writing)
    os.close(writing)
    deadline = time.monotonic() + request["seconds"]
    received = bytearray()
    late = False
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            late = True
            os.kill(child, signal.SIGKILL)
            break
        block = os.read(reading, _BLOCK)
        if not block:
            break
        received += block
    os.close(reading)
    status = os.waitpid(child, 0)[1]
    if received.endswith(b"}") and status == 0:
        return bytes(received)
    return json.dumps(_refusal(request, late, status)).encode()


def _refusal(request: dict[str, Any], late: bool, status: int) -> dict[str, str]:
    if late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        detail = f"its extraction took more than {request['seconds']:g} s; split it or raise seconds_per_file"
        return {"reason": TimedOut.reason, "detail": detail}
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _NO_MEMORY:
        return _no_memory(request)
    how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
    return {"reason": Crashed.reason, "detail": f"its parser crashed ({how}); export the file again"}


def _no_memory(request: dict[str, Any]) -> dict[str, str]:
    detail = f"its extraction needs more than {request['megabytes']} MB; split it or raise megabytes_per_file"
    return {"reason": OutOfMemory.reason, "detail": detail}


def _extract_and_exit(request: dict[str, Any], writing: int) -> None:
    """In the child. Never returns: whatever happens ends in an answer on the pipe or an exit status."""
    try:
        _limit(request)
        answer = _extracted(request)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(answer).encode())
        os._exit(0)
    except MemoryError:
        os._exit(_NO_MEMORY)
    except BaseException:
        os._exit(1)


def _extracted(request: dict[str, Any]) -> dict[str, Any]:
    path = Path(request["path"])
    _, extract = FORMATS[path.suffix.lower()]
    try:
        data = path.read_bytes()
    except OSError as error:
        return {"reason": Unopened.reason, "detail": f"it cannot be opened ({error.strerror}); check its permissions"}
    try:
        parts = extract(data) if data else [Part(text="")]
        return {"parts": [asdict(part) for part in parts]}
    except Unreadable as error:
        return {"reason": error.reason, "detail": error.message}
    except MemoryError:
        return _no_memory(request)
    except Exception as error:  # an untrusted file may make its parser raise anything: this is the process's edge
        return {"reason": Unreadable.reason, "detail": f"its parser gave up ({one_sentence(error)}); export the file again"}


def _limit(request: dict[str, Any]) -> None:
    statm = Path("/proc/self/statm")
    used = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 1 << 30
    space = used + (request["megabytes"] << 20)
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    seconds = int(request["seconds"]) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    answers_fd = os.dup(1)
    os.dup2(2, 1)  # a parser that prints must not write into the protocol
    serve(sys.stdin.buffer, os.fdopen(answers_fd, "wb"))
