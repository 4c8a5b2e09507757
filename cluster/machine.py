"""How much memory this machine has: its own, and its GPUs'."""

import shutil
import subprocess
from pathlib import Path

import psutil

_LIMIT = Path("/sys/fs/cgroup/memory.max")


def host_memory() -> int:
    """Bytes that processes here may use: the machine's, or the container's where that is less."""
    total = int(psutil.virtual_memory().total)
    try:
        limit = _LIMIT.read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def gpu_memory() -> int | None:
    """Bytes of the smallest GPU here; None without one (the driver of a cluster may have none though its workers do)."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    asked = subprocess.run(
        [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"], capture_output=True, text=True, check=False
    )
    sizes = [int(line) << 20 for line in asked.stdout.split() if line.isdigit()]
    return min(sizes, default=None)
