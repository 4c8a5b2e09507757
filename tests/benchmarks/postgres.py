"""A PostgreSQL server of one's own, in a folder of its own, for tests and benchmarks."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.ray_lifecycle import free_port


def installed() -> bool:
    """Whether this machine can start one."""
    return shutil.which("postgres") is not None and shutil.which("initdb") is not None


@contextmanager
def server() -> Iterator[str]:
    """The URL of an empty database on a server that ends with the block. It refuses to run as root, who becomes nobody."""
    folder = Path(tempfile.mkdtemp(prefix="treadle-pg-"))
    who: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    if who:
        shutil.chown(folder, "nobody")
    port = free_port()
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": folder, **who}
    subprocess.run(["initdb", "-D", folder / "data", "-U", "treadle", "--auth=trust", "--no-sync", "-E", "UTF8"], **quiet)
    control = ["pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log"]
    subprocess.run([*control, "-o", f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off", "start"], **quiet)
    try:
        subprocess.run(["createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "treadle", "treadle"], **quiet)
        yield f"postgresql+psycopg://treadle@127.0.0.1:{port}/treadle"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
        shutil.rmtree(folder, ignore_errors=True)
