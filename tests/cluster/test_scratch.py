"""Working folders go with their process, however it ends."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cluster.scratch import make_folder, working_folder
from cluster.settings import ROOT


def test_it_is_gone_when_the_work_is_done_or_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with working_folder("x") as place:
        (place / "file").write_text("a")
        assert place.parent == tmp_path
    with pytest.raises(ZeroDivisionError), working_folder("x"):
        _ = 1 / 0
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_swept_and_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import os, cluster.scratch as s; print(s.make_folder('left'), flush=True); os.kill(os.getpid(), 9)"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    killed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True)
    left = Path(killed.stdout.strip())
    assert left.is_dir()
    others = tmp_path / "treadle-of-nobody-x"
    others.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = make_folder("mine")
    assert not left.exists()
    make_folder("more")
    assert mine.is_dir()
    assert others.is_dir()
