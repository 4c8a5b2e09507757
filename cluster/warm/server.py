"""The warm server: imports once, forks for each request. ``python -m cluster.warm.server SOCKET``; ``launch.py`` starts it.

Forking is safe here because nothing has started a thread: the server checks that after its imports, and says so in its log and ends when
it is not so. CUDA is not touched, Ray not connected.
"""

import array
import contextlib
import fcntl
import gc
import importlib
import json
import math
import os
import random
import runpy
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

_FOR_RAY = ("attr", "colorful", "jsonschema", "msgpack", "uvloop", "wcwidth")
MODULES = ("torch", "sqlalchemy", "mlflow", "deepspeed", "train_jobs.worker", "train_jobs.training", *_FOR_RAY)
"""Imported by name: they are what training takes seconds to import. Not Ray, only what it imports: its core reads the environment that the
raylet gives a worker (the job's id, say) when it is imported, and a fork would have the server's."""
IDLE_SECONDS = 900.0
_GRACE_SECONDS = 10.0
_QUIET_SECONDS = 4.0  # after a fork, before the next driver is prepared: a job that starts is not to be held up


class Server:
    """Accepts connections, one for each process asked for, until nobody has needed one for a while."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._children: dict[int, socket.socket] = {}
        self._ending: dict[int, float] = {}
        self._quiet_since = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._driver: tuple[int, socket.socket] | None = None
        self._forked = math.inf

    def serve(self) -> None:
        """Until idle; a forked process returns from here to run what it was asked for."""
        path = str(self._path)
        self._path.unlink(missing_ok=True)
        self._listener.bind(path)
        os.chmod(path, 0o600)
        self._listener.listen(64)
        self._selector.register(self._listener, selectors.EVENT_READ)
        while self._children or time.monotonic() - self._quiet_since < IDLE_SECONDS:
            if not self._path.exists():  # this Ray's directory is gone
                break
            for key, _ in self._selector.select(timeout=0.2):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._hung_up(int(key.data))
            self._reap()
            if self._driver is None and time.monotonic() - self._forked > _QUIET_SECONDS:
                self._prepare_driver()
        self._path.unlink(missing_ok=True)
        if self._driver:
            self._driver[1].close()  # it reads the end, and ends

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(10.0)
        try:
            asked, streams = _request(connection)
        except (OSError, ValueError):
            connection.close()
            return
        is_driver = asked["arguments"][:1] == ["-m"]
        pid = (self._handed_over(asked, streams) if is_driver else 0) or self._fork(connection)
        if not pid:
            _become(asked, streams)  # does not return
        for number in streams:
            os.close(number)
        self._children[pid] = connection
        self._selector.register(connection, selectors.EVENT_READ, pid)
        self._forked = time.monotonic()
        _tell(connection, pid)

    def _fork(self, *open_there: socket.socket) -> int:
        """0 in the fork, which holds no socket of the server and none of ``open_there``."""
        pid = os.fork()
        if pid == 0:
            self._selector.close()
            for other in (self._listener, *self._children.values(), *([self._driver[1]] if self._driver else ()), *open_there):
                other.close()
        return pid

    def _prepare_driver(self) -> None:
        """A fork that imports Ray's trainer and waits for the next driver's request. Drivers alone may: their job has no id yet."""
        ours, theirs = socket.socketpair()
        pid = self._fork(ours)
        if pid:
            theirs.close()
            self._driver = pid, ours
            return
        try:
            import ray.train.torch  # noqa: F401

            asked, streams = _request(theirs)
        except BaseException:
            os._exit(0)  # the server is gone, or Ray cannot be imported; whoever asks next gets a fork of the server
        theirs.close()
        _become(asked, streams)

    def _handed_over(self, asked: dict[str, Any], streams: list[int]) -> int:
        """The process that waits for a driver's request, with this one; 0 when there is none."""
        if self._driver is None:
            return 0
        (pid, waiting), self._driver = self._driver, None
        with waiting, contextlib.suppress(OSError):
            body = json.dumps(asked).encode()
            socket.send_fds(waiting, [len(body).to_bytes(8, "big")], streams)
            waiting.sendall(body)
            return pid
        return 0

    def _hung_up(self, pid: int) -> None:
        """Whoever asked for a process is gone: so goes the process."""
        self._selector.unregister(self._children[pid])
        self._ending[pid] = time.monotonic() + _GRACE_SECONDS
        _kill(pid, signal.SIGTERM)

    def _reap(self) -> None:
        for pid, late in list(self._ending.items()):
            if time.monotonic() > late:
                _kill(pid, signal.SIGKILL)
        while self._children or self._driver:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            if self._driver and pid == self._driver[0]:
                self._driver[1].close()
                self._driver, self._forked = None, math.inf  # it ended unasked (no Ray to import?): not again before the next job
                continue
            connection = self._children.pop(pid, None)
            if connection is None:  # a prepared driver that had died before it was handed a request
                continue
            if self._ending.pop(pid, None) is None:
                self._selector.unregister(connection)
                _tell(connection, os.waitstatus_to_exitcode(status))
            connection.close()
            self._quiet_since = time.monotonic()


def _request(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    streams = array.array("i")
    head, ancillary, _, _ = connection.recvmsg(8, socket.CMSG_SPACE(3 * streams.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            streams.frombytes(data)
    length = int.from_bytes(head, "big")
    body = b""
    while len(body) < length:
        more = connection.recv(length - len(body))
        if not more:
            raise ValueError("the request ended early")
        body += more
    if len(streams) != 3:
        raise ValueError("three streams are needed")
    return json.loads(body), list(streams)


def _become(asked: dict[str, Any], streams: list[int]) -> None:
    """In the fork: take over streams, environment and place, and run the arguments as Python would."""
    status = 1
    try:
        for target, number in enumerate(streams):
            os.dup2(number, target)
            os.close(number)
        os.setsid()
        os.environ.clear()
        os.environ.update(asked["env"])
        os.chdir(asked["cwd"])
        random.seed()
        arguments = asked["arguments"]
        while arguments and arguments[0] in ("-u", "-B"):
            arguments = arguments[1:]
        for place in reversed(os.environ.get("PYTHONPATH", "").split(os.pathsep)):
            if place and place not in sys.path:
                sys.path.insert(0, place)
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(arguments)
            sys.path.insert(0, os.path.dirname(arguments[0]))
            runpy.run_path(arguments[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # what Python itself does with an error nobody caught
        sys.excepthook(*sys.exc_info())
    finally:
        _leave(status)


def _leave(status: int) -> None:
    """End as Python ends: exit handlers first, then buffers."""
    import atexit
    import threading

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _tell(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # gone; the selector says so too
        connection.sendall(f"{number}\n".encode())


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def main() -> int:
    """Returns 0 when another server has the socket, or after the last request; 1 when the imports left a thread behind."""
    path = Path(sys.argv[1])
    lock = os.open(f"{path}.serving", os.O_RDWR | os.O_CREAT, 0o600)  # held while this process lives
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    os.environ |= {
        "OPENBLAS_NUM_THREADS": "1",
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    }
    for name in MODULES:
        importlib.import_module(name)
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1 or "ray" in sys.modules:
        wrong = f"{threads} threads run" if threads > 1 else "Ray is imported"
        print(f"{wrong} after the imports of {', '.join(MODULES)}: a fork would not be safe.", file=sys.stderr)
        return 1
    gc.collect()
    gc.freeze()  # else each fork's first full collection goes over all that was imported: 0.4 s, and every page copied
    Server(path).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
