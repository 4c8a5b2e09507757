"""The extraction server: reads requests (lines of JSON), has a child answer them, and replaces a child that failed or was late.

The server itself never looks into a file. Its child lives on from file to file (a fork costs more than a small file does) until it
fails, is late, has grown, or has read so many files that a leak could tell.
"""

import contextlib
import fcntl
import importlib
import json
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

from cluster.errors import one_sentence
from data_jobs.extract import ARCHIVES, read
from data_jobs.extract.frames import BLOCK, framed, length
from data_jobs.extract.part import Crashed, Options, OutOfMemory, TimedOut, Unopened, Unreadable

_NO_MEMORY = 77
"""Exit status of a child that ran out of memory."""
_FILES = 2000
_GROWTH = 256 << 20
_HEAVY = {
    ".html": "trafilatura",
    ".htm": "trafilatura",
    ".docx": "lxml.etree",
    ".pdf": "pypdfium2",
    ".parquet": "pyarrow.parquet",
    ".arrow": "pyarrow.parquet",
    ".eml": "trafilatura",
    ".mbox": "trafilatura",
    ".xml": "trafilatura",
}
"""What the server imports before a child needs it, so that it is done once and outside the file's time."""

Request = dict[str, Any]


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """A line of JSON in, an answer out, until the client goes away."""
    child: Child | None = None
    imported: set[str] = set()
    for line in requests:
        request = json.loads(line)
        new = _parsers(Path(request["path"]).suffix.lower()) - imported
        if new:
            imported |= new
            for parser in new:
                importlib.import_module(parser)
            if child:
                child.end()
            child = None
        answer, child = _answered(request, child)
        answers.write(answer)
        answers.flush()
    if child:
        child.end()


def _parsers(ending: str) -> set[str]:
    return set(_HEAVY.values()) if ending in ARCHIVES else {_HEAVY[ending]} if ending in _HEAVY else set()


def _answered(request: Request, child: "Child | None") -> tuple[bytes | bytearray, "Child | None"]:
    """The answer, and the child to ask next. What kills a child that read other files before is tried once more in a fresh one:
    the outcome of a file must not hang on the files before it."""
    if child:
        answer = child.ask(request)
        if answer or child.late:
            return answer or _refusal(request, child), child.kept()
    child = Child()
    answer = child.ask(request)
    if answer:
        return answer, child.kept()
    return _refusal(request, child), None


class Child:
    """A forked process that reads files, as the server sees it."""

    def __init__(self) -> None:
        from_server, self._requests = os.pipe()
        self._answers, to_server = os.pipe()
        self.late = False
        self._gone = False
        self.status = 0
        self._files = 0
        self._size = _bytes_of(os.getpid())
        self._pid = os.fork()
        if self._pid == 0:
            _live(from_server, to_server)
        os.close(from_server)
        os.close(to_server)
        with contextlib.suppress(AttributeError, OSError):  # Linux alone has pipes of any size
            fcntl.fcntl(self._answers, fcntl.F_SETPIPE_SZ, BLOCK)

    def ask(self, request: Request) -> bytes | bytearray:
        """The child's answer, framed; nothing when it died or was late, and then it is gone."""
        line = json.dumps(request).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):
            os.write(self._requests, line)
        deadline = time.monotonic() + request["seconds"]
        received = bytearray()
        whole = 0
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                self.late = True
                break
            block = os.read(self._answers, BLOCK)
            if not block:
                break
            received += block
            whole = whole or length(received)
            if whole and len(received) >= whole:
                self._files += 1
                return received
        self.end(kill=self.late)
        return b""

    def kept(self) -> "Child | None":
        """The child, if it may read another file; else it is let go."""
        if self._gone:
            return None
        if self._files < _FILES and _bytes_of(self._pid) - self._size < _GROWTH:
            return self
        self.end()
        return None

    def end(self, kill: bool = True) -> None:
        """Waits until it is gone. One that ended by itself is not killed: how it ended is its answer."""
        if kill:
            os.kill(self._pid, signal.SIGKILL)
        os.close(self._requests)
        os.close(self._answers)
        self.status = os.waitpid(self._pid, 0)[1]
        self._gone = True


def _frame(refusal: dict[str, str]) -> bytes:
    return b"".join(framed(refusal))


def _refusal(request: Request, child: Child) -> bytes:
    status = child.status
    if child.late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        detail = f"its extraction took more than {request['seconds']:g} s; split it or raise seconds_per_file"
        return _frame({"reason": TimedOut.reason, "detail": detail})
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _NO_MEMORY:
        detail = f"its extraction needs more than {request['megabytes']} MB; split it or raise megabytes_per_file"
        return _frame({"reason": OutOfMemory.reason, "detail": detail})
    how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
    return _frame({"reason": Crashed.reason, "detail": f"its parser crashed ({how}); export the file again"})


def _live(from_server: int, to_server: int) -> None:
    """The child. Never returns: it answers until there are no more requests, or ends with a status that says why."""
    status = 1
    try:
        _only(from_server, to_server)
        with os.fdopen(from_server, "rb") as requests, os.fdopen(to_server, "wb", BLOCK) as answers:
            for line in requests:
                request = json.loads(line)
                _limit(request)
                answers.writelines(framed(_extracted(request)))
                answers.flush()
        status = 0
    except MemoryError:
        status = _NO_MEMORY
    finally:
        os._exit(status)


def _only(*kept: int) -> None:
    """Closes what the server has open: a child that held the client's pipes would hide the server's end from the client.
    And takes the right to write files or core dumps."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(null, standard)
    for name in os.listdir("/dev/fd"):
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit(request: Request) -> None:
    """Bounds for this file alone: so much address space and processor time above what is used now."""
    space = _bytes_of(os.getpid()) + (request["megabytes"] << 20)
    resource.setrlimit(resource.RLIMIT_AS, (space, resource.getrlimit(resource.RLIMIT_AS)[1]))
    spent = int(time.process_time() + request["seconds"]) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (spent, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _bytes_of(pid: int) -> int:
    """Address space of a process; a guess where there is no /proc."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as statm:
            return int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 1 << 30


def _extracted(request: Request) -> dict[str, Any]:
    try:
        with open(request["path"], "rb") as file:
            file.seek(request["start"])
            data = file.read() if request["end"] is None else file.read(max(0, request["end"] - request["start"]))
    except OSError as error:
        return {"reason": Unopened.reason, "detail": f"it cannot be opened ({error.strerror}); check its permissions"}
    try:
        parts = read(request["path"], data, Options(**request["options"]))
    except Unreadable as error:
        return {"reason": error.reason, "detail": error.message}
    except MemoryError:
        raise
    except Exception as error:  # an untrusted file may make its parser raise anything: this is the process's edge
        return {"reason": Unreadable.reason, "detail": f"its parser gave up ({one_sentence(error)}); export the file again"}
    return {"parts": parts}


if __name__ == "__main__":
    answers_fd = os.dup(1)
    os.dup2(2, 1)  # a parser that prints must not write into the protocol
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, os.fdopen(answers_fd, "wb"))
