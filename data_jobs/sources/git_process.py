"""git as a process that obeys nobody but this file: no hooks, no configuration of the user or the machine, no prompts, one protocol,
no output that is read without a bound, and an end by the clock. It never checks out."""

import base64
import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import SecretStr

from cluster.errors import Conflict, Unavailable
from data_jobs.sources.found import Failed, printable

# Given as the user's configuration, because git starts further processes of its own and they read it too. Which protocols may be used is
# in the environment, where no configuration of a repository can widen it.
_CONFIG = """[core]
    hooksPath = /dev/null
    fsmonitor = false
    symlinks = false
[safe]
    directory = *
[gc]
    auto = 0
[maintenance]
    auto = false
[fetch]
    recurseSubmodules = false
    fsckObjects = false
[http]
    followRedirects = false
    lowSpeedLimit = 1
    lowSpeedTime = {seconds}
[log]
    showSignature = false
    mailmap = false
[color]
    ui = false
"""
_PIECE = 1 << 20
_WAIT = 60.0
_NOBODY = SecretStr("")


@dataclass(frozen=True)
class Git:
    """``folder`` is the bare repository; ``seconds`` bounds every command. ``user`` is "name:password" for https, kept out of command
    lines and files; ``pin`` is
    git's http.curloptResolve: which addresses a host has."""

    folder: Path
    protocol: str
    seconds: float
    user: SecretStr = _NOBODY
    pin: str = ""

    def fetch(self, url: str, references: Sequence[str]) -> None:
        """Bring references and what they reach; nothing of the URL is written anywhere."""
        quietly = ("--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance")
        self.run("fetch", *quietly, "--force", "--prune", "--update-shallow", "--", url, *references)

    def tidy(self) -> None:
        """Remove what a git that was killed has left: its locks, and the pack it was receiving. Waits for one whose run was killed
        and that is still at work; raises Conflict when that takes long."""
        until = time.monotonic() + min(self.seconds, _WAIT)
        with self._lock() as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise Conflict(f"git of an earlier run is still fetching into {self.folder}; try again later.") from None
                    time.sleep(0.02)
            for pattern in ("*.lock", "refs/**/*.lock", "objects/pack/tmp_*"):
                for left in self.folder.glob(pattern):
                    left.unlink(missing_ok=True)

    def _lock(self) -> IO[bytes]:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        return (self.folder.parent / ".lock").open("wb")

    def run(self, *arguments: str) -> bytes:
        """A command's output. Raises Failed with git's own sentence."""
        with self.started(*arguments) as process:
            assert process.stdout is not None
            return process.stdout.read()

    def records(self, *arguments: str, longest: int) -> Iterator[tuple[bytes, bool]]:
        """A command's NUL-terminated records as they come, each cut at ``longest`` bytes, and whether it was cut."""
        with self.started(*arguments) as process:
            assert process.stdout is not None
            head, cut = b"", False
            while piece := os.read(process.stdout.fileno(), _PIECE):
                *ends, rest = piece.split(b"\0")
                for end in ends:
                    whole = head + end
                    yield whole[:longest], cut or len(whole) > longest
                    head, cut = b"", False
                head, cut = (head + rest)[:longest], cut or len(head) + len(rest) > longest
            if head:
                yield head, cut

    @contextmanager
    def started(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
        """A running command, killed with all it started when the block or its time ends. Raises Failed when it did not end well."""
        program = shutil.which("git")
        if not program:
            raise Unavailable("git is not installed on this machine; install it to read repositories.")
        said: list[bytes] = []
        with self._lock() as lock:
            # Held by git and all it starts until the last of them has ended, whatever becomes of this process.
            fcntl.flock(lock, fcntl.LOCK_SH)
            process = subprocess.Popen(
                [program, "--bare", f"--git-dir={self.folder}", *arguments],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment(program),
                start_new_session=True,
                pass_fds=(lock.fileno(),),
            )
        assert process.stdout is not None
        assert process.stderr is not None
        listener = threading.Thread(target=_listen, args=(process.stderr, said), daemon=True)
        late = threading.Event()
        timer = threading.Timer(self.seconds, _end, args=(process, late))
        timer.daemon = True
        listener.start()
        timer.start()
        finished = False
        try:
            yield process
            if process.stdin:
                process.stdin.close()
            process.stdout.close()
            process.wait()
            finished = True
        finally:
            timer.cancel()
            _end(process)
            process.wait()
            listener.join(timeout=5)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
        if finished and process.returncode:
            raise Failed(self._sentence(arguments[0], said, late.is_set()))

    def _sentence(self, command: str, said: list[bytes], late: bool) -> str:
        if late:
            return f"git {command} took longer than {self.seconds:g} s."
        lines = b"".join(said).decode("utf-8", "replace").splitlines()
        told = next(
            (line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "it gave no reason"
        )
        for secret in filter(None, self.user.get_secret_value().split(":", 1)):
            told = told.replace(secret, "…")
        return f"git {command} failed: {printable(told.partition(': ')[2] or told)[:300].rstrip('.')}."

    def _environment(self, program: str) -> dict[str, str]:
        config = self.folder.parent / "gitconfig"
        config.parent.mkdir(parents=True, exist_ok=True)
        text = _CONFIG.format(seconds=max(1, round(self.seconds / 30)))
        if not config.is_file() or config.read_text() != text:
            config.write_text(text)
        extra = {"http.curloptResolve": self.pin} if self.pin else {}
        if user := self.user.get_secret_value():
            extra["http.extraHeader"] = f"Authorization: Basic {base64.b64encode(user.encode()).decode()}"
        given = {f"GIT_CONFIG_KEY_{number}": key for number, key in enumerate(extra)}
        given |= {f"GIT_CONFIG_VALUE_{number}": value for number, value in enumerate(extra.values())}
        return {
            "PATH": f"{Path(program).parent}:{os.defpath}",
            "HOME": str(config.parent),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(config),
            "GIT_CONFIG_COUNT": str(len(extra)),
            "GIT_ALLOW_PROTOCOL": self.protocol,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            **given,
        }


def _listen(stream: IO[bytes], said: list[bytes]) -> None:
    """Everything a process complains of, the first 64 KiB kept: a full pipe would stop it."""
    while piece := os.read(stream.fileno(), 4096):
        if len(said) < 16:
            said.append(piece)


def _end(process: subprocess.Popen[bytes], late: threading.Event | None = None) -> None:
    if process.poll() is None:
        if late:
            late.set()
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
