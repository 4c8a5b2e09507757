"""Warm processes: a server that has imported what training needs, and forks a process for whoever asks.

``python -I -S cluster/warm/launch.py SOCKET ARGUMENTS…`` stands in for ``python ARGUMENTS…``: Ray starts the driver and the workers of a
training through it. The first one starts the server and waits for its imports; the next ones are there in milliseconds. Every process
is a fork of its own, so nothing of one job is left in the next.

The server belongs to a cluster on this machine: its socket lies in that Ray's scratch directory, it ends with it (``treadle down``), and
by itself after a quarter of an hour without work. On a cluster that is somebody else's nothing is kept warm.
"""

import shlex
import sys
from pathlib import Path

SOCKET = "warm.sock"


def python(scratch: str | None) -> str:
    """The command that stands for Python's: warm where Ray keeps its files in ``scratch``, else the interpreter itself."""
    if scratch is None:
        return shlex.quote(sys.executable)
    launch = Path(__file__).with_name("launch.py")
    return " ".join(shlex.quote(str(word)) for word in (sys.executable, "-I", "-S", launch, Path(scratch) / SOCKET))
