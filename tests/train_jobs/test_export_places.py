"""An export's directory is there whole or not at all."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.errors import Conflict, InvalidInput, Unavailable
from cluster.settings import ROOT
from train_jobs.export import placing

KILLED = """
import os, signal, sys
from pathlib import Path
from train_jobs.export import placing
with placing.writing(Path(sys.argv[1]), "linux@1.0.0") as folder:
    (folder / "half.gguf").write_bytes(b"x" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)
"""
FULL = """
import resource, signal, sys
from pathlib import Path
from train_jobs.export import placing
from cluster.errors import Unavailable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with placing.writing(Path(sys.argv[1]), "linux@1.0.0") as folder:
        (folder / "big.gguf").write_bytes(b"x" * 10_000)
except Unavailable as error:
    print(error.message)
"""


def write(target: Path, ref: str, name: str) -> None:
    with placing.writing(target, ref) as folder:
        (folder / name).write_text(name)
        placing.write_manifest(folder, {"release": ref})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_export_of_the_same_release_replaces_the_earlier_one_whole(tmp_path):
    write(tmp_path / "deep" / "out", "linux@1.0.0", "first.gguf")
    write(tmp_path / "deep" / "out", "linux@1.0.0", "second.gguf")
    assert names(tmp_path / "deep" / "out") == ["export.json", "second.gguf"]
    assert names(tmp_path / "deep") == ["out"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda out: write(out, "linux@2.0.0", "a"), "holds an export of linux@2.0.0, not of linux@1.0.0"),
        (lambda out: (out.mkdir(), (out / "thesis.tex").write_text("x")), "is not empty and holds no export"),
        (lambda out: (out.mkdir(), (out / "export.json").write_text("[]")), "is not empty and holds no export"),
        (lambda out: out.write_text("x"), "is a file or a link"),
        (lambda out: out.symlink_to("/"), "is a file or a link"),
    ],
    ids=["another release", "a person's files", "a broken manifest", "a file", "a link"],
)
def test_what_is_somebody_elses_is_left_alone(tmp_path, make, says):
    out = tmp_path / "out"
    make(out)
    before = names(out) if out.is_dir() else None
    with pytest.raises(InvalidInput) as caught, placing.writing(out, "linux@1.0.0"):
        pytest.fail("it was written")
    assert says in caught.value.message
    assert (names(out) if out.is_dir() else None) == before


def test_a_failure_leaves_nothing_and_keeps_what_was_there(tmp_path):
    write(tmp_path / "out", "linux@1.0.0", "first.gguf")

    def drifts() -> None:
        with placing.writing(tmp_path / "out", "linux@1.0.0") as folder:
            (folder / "second.gguf").write_text("x")
            raise InvalidInput("drift")

    with pytest.raises(InvalidInput, match="drift"):
        drifts()
    assert names(tmp_path / "out") == ["export.json", "first.gguf"]
    assert names(tmp_path) == ["out"]


def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(Unavailable, match="the disk is full; nothing was kept"), placing.writing(tmp_path / "out", "x@1.0.0"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    command = [sys.executable, "-c", FULL, str(tmp_path / "out")]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert "cannot be written: File too large; nothing was kept" in done.stdout
    assert names(tmp_path) == []


def test_a_killed_export_leaves_nothing_under_its_name_and_the_next_one_clears_up(tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(out)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert names(tmp_path) == [".out.exporting"]
    write(out, "linux@1.0.0", "whole.gguf")
    assert names(tmp_path) == ["out"]
    assert names(out) == ["export.json", "whole.gguf"]


def test_an_export_killed_between_its_two_renames_gives_the_earlier_one_back(tmp_path):
    write(tmp_path / ".out.before", "linux@1.0.0", "first.gguf")
    with pytest.raises(InvalidInput, match=r"holds an export of linux@1\.0\.0"), placing.writing(tmp_path / "out", "linux@2.0.0"):
        pytest.fail("it was written")
    assert names(tmp_path / "out") == ["export.json", "first.gguf"]


def test_two_at_once_to_the_same_place_are_told(tmp_path):
    with placing.writing(tmp_path / "out", "linux@1.0.0") as folder:
        (folder / "a").write_text("x")
        with pytest.raises(Conflict, match="Another export is writing"), placing.writing(tmp_path / "out", "linux@1.0.0"):
            pytest.fail("both wrote")
        assert names(folder) == ["a"]
    assert names(tmp_path / "out") == ["a"]


def test_a_place_that_cannot_be_written_is_one_sentence():
    with pytest.raises(Unavailable, match="cannot be written"), placing.writing(Path("/proc/out"), "linux@1.0.0"):
        pytest.fail("it was written")
