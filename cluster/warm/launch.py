"""Stands in for ``python``: asks the warm server for a process with these arguments, and lives as long as it does.

Imports the standard library alone, and is run by its path: it must start in a few hundredths of a second.
"""

import array
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time

START_SECONDS = 180.0


def connected(path: str) -> "socket.socket | None":
    """A connection to the server, which is started when nobody listens; None when it does not come up."""
    deadline = time.monotonic() + START_SECONDS
    started: subprocess.Popen[bytes] | None = None
    while time.monotonic() < deadline:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
            return connection
        except OSError:
            connection.close()
        if started is None:
            started = start(path)
        elif started.poll() not in (None, 0):  # 0: another one was faster
            return None
        time.sleep(0.02)
    return None


def start(path: str) -> "subprocess.Popen[bytes]":
    """Starts the server; one that finds another at its socket ends at once."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    with open(path + ".lock", "w") as lock, open(path + ".log", "ab") as log:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "cluster.warm.server", path]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=root, env=env, start_new_session=True
        )


def main() -> int:
    """Runs ``python ARGUMENTS…`` warm; returns its exit status. Without a server it becomes that Python itself."""
    path, arguments = sys.argv[1], sys.argv[2:]
    connection = connected(path)
    if connection is None:
        os.execv(sys.executable, [sys.executable, *arguments])
    asked = json.dumps({"arguments": arguments, "env": dict(os.environ), "cwd": os.getcwd()}).encode()
    streams = array.array("i", [0, 1, 2])
    connection.sendmsg([len(asked).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    connection.sendall(asked)
    reader = connection.makefile("rb")
    pid = int(reader.readline() or b"0")
    if not pid:
        os.execv(sys.executable, [sys.executable, *arguments])

    def forward(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, forward)
    status = int(reader.readline() or b"1")  # the server ends the process when this one is killed
    if status < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler to take back
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main())
