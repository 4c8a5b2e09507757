"""What ends with a cluster."""

import os
import subprocess
from pathlib import Path

from cluster import ray_lifecycle


def test_what_a_cluster_started_and_lost_is_found_by_where_it_keeps_its_files(tmp_path: Path) -> None:
    """As a vLLM is whose engine died: no title, no parent, and only its environment says whose it was."""
    mine, others = tmp_path / "treadle-a", tmp_path / "treadle-b"
    started = [
        subprocess.Popen(["sleep", "60"], env={**os.environ, "TMPDIR": str(scratch / "tmp")}, start_new_session=True)
        for scratch in (mine, others)
    ]
    try:
        found = ray_lifecycle._below(str(mine))
        assert [one.pid for one in found] == [started[0].pid]
        ray_lifecycle._end(found)
        started[0].wait(timeout=10)
        assert started[1].poll() is None
    finally:
        for one in started:
            one.kill()
            one.wait()
