"""Real git repositories for the tests of sources, and what is gathered from them."""

import os
import subprocess
from pathlib import Path
from typing import Any

from cluster.settings import SourcesSettings
from data_jobs.sources import Gathered, gather

SETTINGS = SourcesSettings(allow_hosts=("127.0.0.1", "git.example.org"), allow_private_hosts=("127.0.0.1",), seconds=20)


class Made:
    """A repository with a work tree."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str, data: bytes | None = None) -> str:
        who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in
               {"NAME": "Somebody Named", "EMAIL": "somebody@example.org", "DATE": "2024-03-01T12:00:00+0200"}.items()}  # fmt: skip
        env = {"PATH": os.environ["PATH"], "HOME": str(self.root), "GIT_CONFIG_NOSYSTEM": "1", **who}
        done = subprocess.run(["git", *arguments], cwd=self.root, env=env, input=data, capture_output=True, check=True)
        return done.stdout.decode().strip()

    def commit(self, message: str, **files: str | bytes) -> str:
        for name, data in files.items():
            path = self.root / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.encode() if isinstance(data, str) else data)
        self.git("add", "-A", "-f")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def entry(self, message: str, *entries: tuple[str, bytes, bytes]) -> None:
        """A commit whose tree has entries that no file system would take: (mode, name, content or id)."""
        lines = b"".join(
            f"{mode} ".encode() + name + b"\0" + bytes.fromhex(content.decode() if mode == "160000" else self.blob(content))
            for mode, name, content in entries
        )
        tree = self.git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", data=lines)
        self.git("update-ref", "refs/heads/main", self.git("commit-tree", tree, "-m", message))

    def blob(self, data: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", data=data)


def got(spool: Path, *given: Any, settings: SourcesSettings = SETTINGS) -> Gathered:
    return gather([str(one) for one in given], spool, settings)


def texts(gathered: Gathered) -> dict[str, str]:
    return {one.source: Path(one.path).read_text() for one in gathered.files}
