"""An engine of the job's own: the application without Ray Serve, launched by name and ended with the job."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator

from cluster.errors import Unavailable
from cluster.settings import ROOT, Settings

ANSWERS_BY = "serve_app.offline"
STARTS_WITHIN_SECONDS = 900.0
_ENDS_WITHIN_SECONDS = 45.0


@contextlib.contextmanager
def offline_address(settings: Settings, base: str | None = None) -> Iterator[str]:
    """The address of the application on an engine of its own, up for as long as the block runs. ``base`` is the name of the one it
    serves, by default the first. Raises Unavailable with its own sentence when it does not start. It ends when its standard input does, so
    a job that is killed leaves none behind."""
    command = [sys.executable, "-m", ANSWERS_BY, *(["--base", base] if base else [])]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings.env}, start_new_session=True, **pipes)
    try:
        yield _address(process)
    finally:
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ENDS_WITHIN_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what is left of its group
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _address(process: "subprocess.Popen[bytes]") -> str:
    lines: deque[bytes] = deque()

    def read() -> None:
        if process.stdout is not None:
            lines.append(process.stdout.readline())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(STARTS_WITHIN_SECONDS)
    try:
        said = json.loads(lines.popleft())
    except (IndexError, ValueError):
        why = f"it said nothing within {STARTS_WITHIN_SECONDS:g} s" if reader.is_alive() else "its process ended"
        raise Unavailable(f"The offline engine did not start: {why}; the job's log says more (treadle runs logs).") from None
    if "address" not in said:
        raise Unavailable(f"The offline engine did not start: {said.get('error')}")
    return str(said["address"])
