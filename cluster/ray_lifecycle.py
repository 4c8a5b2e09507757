"""Starting, finding and ending a cluster on this machine: the Ray head, the MLflow server, the Serve application.

``$TREADLE_HOME/cluster.json`` says what runs. Only processes that were started here are ended, by pid, and only while the pid is still
that process. With ``ray.address`` set (the cluster profile) Ray is somebody else's: it is used, never started or stopped.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import psutil

from cluster import tls
from cluster.artifacts import write_whole
from cluster.domain.base import Frozen
from cluster.errors import Conflict, NotFound, Unavailable
from cluster.scratch import make_folder
from cluster.settings import ROOT, Settings, cpu_cores

Say = Callable[[str], None]
RAY_STARTS = 4


class Process(Frozen):
    """A process that was started here; ``born`` tells it from a later one with the same pid."""

    pid: int
    born: float

    def alive(self) -> bool:
        """Whether it still runs."""
        try:
            found = psutil.Process(self.pid)
            return bool(abs(found.create_time() - self.born) < 1.0 and found.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False


class ClusterState(Frozen):
    """Where the parts of the running cluster listen."""

    address: str
    dashboard: str
    serve: str
    mlflow: str | None = None
    scratch: str | None = None  # Ray's temp directory, where it was started here
    processes: dict[str, Process] = {}


def state_file(settings: Settings) -> Path:
    return settings.home / "cluster.json"


def state(settings: Settings) -> ClusterState | None:
    """What `treadle up` left, whether it still runs or not."""
    try:
        return ClusterState.model_validate_json(state_file(settings).read_text())
    except FileNotFoundError:
        return None


def connection(settings: Settings) -> ClusterState:
    """The running cluster; sets this process's Ray token. Raises Unavailable when there is none."""
    found = state(settings)
    if found is None or any(not process.alive() for name, process in found.processes.items() if name == "ray"):
        raise Unavailable(f"No cluster runs for {settings.home}; start it with: treadle up")
    os.environ.update(ray_environment(settings))
    return found


def reachable(settings: Settings) -> bool:
    """Whether jobs can be handed to a cluster: one that `treadle up` started and that lives, or one that the settings name."""
    if settings.ray.address is not None:
        return True
    try:
        connection(settings)
    except Unavailable:
        return False
    return True


def ray_of_this_process(settings: Settings) -> None:
    """Starts a Ray that ends with this process, in a directory of its own. It has this machine's cores and the settings' object store."""
    import atexit
    import logging

    os.environ.update(ray_environment(settings))  # before Ray is imported: it reads its token's place once
    import ray

    place = make_folder("ray")

    def end() -> None:
        ray.shutdown()
        shutil.rmtree(place, ignore_errors=True)

    atexit.register(end)
    store = int(settings.ray.object_store_gib * 2**30)
    options: dict[str, Any] = {
        "address": "local",
        "num_cpus": cpu_cores(),
        "object_store_memory": store,
        "include_dashboard": False,
    }
    ray.init(**options, _temp_dir=str(place), log_to_driver=False, logging_level=logging.WARNING)


def join(settings: Settings, worker_output: bool = False, runtime: dict[str, Any] | None = None) -> None:
    """Connects this process to Ray, unless it is: to the cluster that the settings or ``treadle up`` name, else to the one that Ray's own
    RAY_ADDRESS does (``ray job submit`` sets it). ``worker_output``: what workers print is printed here. ``runtime``: Ray's runtime
    environment of everything this process starts there. Raises Unavailable when there is none, or it does not answer.
    """
    import logging

    os.environ.update(ray_environment(settings))  # before Ray is imported: it reads its token's place once
    import ray

    if ray.is_initialized():
        return
    address = settings.ray.address
    if address is None and (state(settings) is not None or "RAY_ADDRESS" not in os.environ):
        address = connection(settings).address
    try:
        ray.init(
            address=address,
            runtime_env=runtime,
            include_dashboard=False,
            log_to_driver=worker_output,
            logging_level=logging.WARNING,
        )
    except ConnectionError as error:
        raise Unavailable(f"Ray at {address} does not answer ({error}); start it with: treadle up") from None


def ray_environment(settings: Settings) -> dict[str, str]:
    """The environment of every process that talks to this cluster's Ray: token authentication with the home's token."""
    token = settings.ray_token
    fixed = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_raylet_start_wait_time_s": "120",  # a busy machine needs more than Ray's 30 s
        "PYTHONDONTWRITEBYTECODE": "",  # compiled once, not by every worker
        "RAY_worker_niceness": "0",  # Ray's workers are the work here; by default anything else goes before them
    }
    if settings.ray.address is not None:
        return fixed
    if not token.exists():
        write_whole(token, secrets.token_hex(32).encode())
        token.chmod(0o600)
    return {**fixed, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def claim_port(wanted: int, what: str, key: str, host: str = "127.0.0.1") -> int:
    """``wanted``, or a free port for 0. Raises Conflict when somebody listens there."""
    if wanted == 0:
        return free_port(host)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError:
            raise Conflict(
                f"Port {wanted} for {what} is in use; stop what listens there, or set {key} in configs/treadle.yaml."
            ) from None
    return wanted


def _spawn(name: str, command: list[str], settings: Settings, extra: dict[str, str]) -> Process:
    logs = settings.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with (logs / f"{name}.log").open("wb") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=ROOT,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **settings.env, **ray_environment(settings), **extra},
        )
    return Process(pid=child.pid, born=psutil.Process(child.pid).create_time())


def _log(settings: Settings, name: str) -> str:
    return (settings.home / "logs" / f"{name}.log").read_text(errors="replace")


def _tail(settings: Settings, name: str) -> str:
    lines = _log(settings, name).strip().splitlines()
    return lines[-1] if lines else "no message"


def _wait(what: str, ready: Callable[[], bool], process: Process, settings: Settings, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if not process.alive():
            raise Unavailable(f"{what} ended while starting: {_tail(settings, what)} (see {settings.home}/logs/{what}.log)")
        if time.monotonic() > end:
            raise Unavailable(f"{what} did not answer within {seconds:.0f} s (see {settings.home}/logs/{what}.log)")
        time.sleep(0.2)


def _answers(url: str, verify: ssl.SSLContext | bool = True) -> bool:
    import httpx

    try:
        return httpx.get(url, timeout=2, verify=verify).status_code < 500
    except httpx.HTTPError:
        return False


def start(settings: Settings, say: Say = print, mlflow: bool = True) -> ClusterState:
    """Start the Ray head and (unless not wanted) the MLflow server, if they do not run.

    Raises Conflict on a port in use, Unavailable when a part dies.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    found = state(settings)
    if found is not None and all(process.alive() for process in found.processes.values()):
        os.environ.update(ray_environment(settings))
        return found
    if found is not None:
        stop(settings, say)
    os.environ.update(ray_environment(settings))
    tls.files(settings)
    serve = f"{tls.scheme(settings)}://{settings.serve.host}:{claim_port(settings.serve.port, 'the HTTP endpoint', 'serve.port')}"
    if settings.ray.address is not None:
        shared = ClusterState(address=settings.ray.address, dashboard=settings.ray.address, serve=serve)
        write_whole(state_file(settings), shared.model_dump_json(indent=1).encode())
        return shared
    gcs = claim_port(settings.ray.gcs_port, "Ray", "ray.gcs_port")
    dashboard = claim_port(settings.ray.dashboard_port, "Ray's dashboard", "ray.dashboard_port")
    port = claim_port(settings.mlflow.port, "MLflow", "mlflow.port") if mlflow else None
    made = ClusterState(
        address=f"127.0.0.1:{gcs}",
        dashboard=f"http://127.0.0.1:{dashboard}",
        serve=serve,
        mlflow=f"http://{settings.mlflow.host}:{port}" if port else None,
        # Ray's sockets lie in its temp directory, and a socket's path may be 107 characters at most: a home can be too deep.
        scratch=f"{tempfile.gettempdir()}/treadle-{secrets.token_hex(4)}",
    )
    try:
        say("starting Ray")
        made = _start_ray(settings, made, _ray_command(settings, gcs, dashboard, str(made.scratch)), say)
        if port:
            say("starting MLflow")
            # MLflow's server starts nine more processes for jobs of its own that nothing here uses.
            quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
            made = _noted(settings, made, "mlflow", _spawn("mlflow", _mlflow_command(settings, port), settings, quiet))
            _wait("mlflow", lambda: _answers(f"{made.mlflow}/health"), made.processes["mlflow"], settings, 180)
    except BaseException:
        if state(settings) is not None:
            stop(settings, say)
        raise
    return made


def _noted(settings: Settings, made: ClusterState, name: str, process: Process) -> ClusterState:
    """The state with one more process, written down before anything is waited for: what is started can always be stopped."""
    made = made.model_copy(update={"processes": {**made.processes, name: process}})
    write_whole(state_file(settings), made.model_dump_json(indent=1).encode())
    return made


def _start_ray(settings: Settings, made: ClusterState, command: list[str], say: Say) -> ClusterState:
    """A raylet gives its agents 15 s to come up, whatever its settings say, and dies when a busy machine needs longer: then it is
    started again. What came up by then is in the page cache, so the next start is faster."""
    dashboard = made.dashboard
    # What a job that was killed leaves among its temporary files goes when this Ray goes.
    temporary = Path(str(made.scratch)) / "tmp"
    temporary.mkdir(mode=0o700, parents=True)
    for attempt in range(1, RAY_STARTS + 1):
        made = _noted(settings, made, "ray", _spawn("ray", command, settings, {"TMPDIR": str(temporary)}))
        process = made.processes["ray"]
        try:
            # The dashboard answers before the node does: only the command's own word says that both are there.
            _wait("ray", lambda: "Ray runtime started" in _log(settings, "ray"), process, settings, 180)
            _wait("ray", lambda: _answers(f"{dashboard}/api/version"), process, settings, 60)
            return made
        except Unavailable:
            if attempt == RAY_STARTS:
                raise
            say(f"Ray did not come up (attempt {attempt} of {RAY_STARTS}); starting it again")
            _end([process, *_below(str(made.scratch))])
    raise AssertionError("unreachable")


def _ray_command(settings: Settings, gcs: int, dashboard: int, scratch: str) -> list[str]:
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--node-ip-address=127.0.0.1", f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"]
    command += [f"--temp-dir={scratch}", f"--object-store-memory={int(settings.ray.object_store_gib * 2**30)}"]
    # A second cluster on the same machine must not meet this one on a default port.
    for option in ("ray-client-server-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port"):
        command.append(f"--{option}={free_port()}")
    if settings.ray.logical_cpus:
        command.append(f"--num-cpus={settings.ray.logical_cpus}")
    return command


def _mlflow_command(settings: Settings, port: int) -> list[str]:
    command = [sys.executable, "-m", "mlflow", "server", "--host", settings.mlflow.host, "--port", str(port), "--workers", "1"]
    return [*command, "--backend-store-uri", settings.mlflow_url, "--default-artifact-root", f"{settings.artifacts_url}/mlflow"]


def deploy(settings: Settings, say: Say = print) -> None:
    """Put the Serve application on the running cluster and wait until it is ready. Its lines go to ``say``."""
    connection(settings)
    command = [sys.executable, "-m", "serve_app.app", "--deploy"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **settings.env, **ray_environment(settings)}
    log = settings.home / "logs" / "deploy.log"
    with (
        log.open("ab") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, env=env, text=True) as child,
    ):
        last = ""
        for line in child.stdout or ():
            last = line.strip() or last
            say(last)
    if child.returncode:
        raise Unavailable(f"The Serve application did not start: {last or 'no message'} (see {log})")


def stop(settings: Settings, say: Say = print) -> None:
    """End what `treadle up` started here. Raises NotFound when nothing was."""
    found = state(settings)
    if found is None:
        raise NotFound(f"No cluster runs for {settings.home}; there is nothing to stop.")
    for name in found.processes:
        say(f"stopping {name}")
    _end(list(found.processes.values()))
    if found.scratch is not None:
        _end(_below(found.scratch))
        shutil.rmtree(found.scratch, ignore_errors=True)
    state_file(settings).unlink(missing_ok=True)


def _below(scratch: str) -> list[Process]:
    """The processes of the Ray that keeps its files in ``scratch`` (a random name, so nobody else's), and what they started, which knows it
    by ``TMPDIR``: a vLLM whose engine died while it started has nobody who would end it."""
    found = []
    for one in psutil.process_iter(["cmdline", "environ", "create_time"]):
        told = [*(one.info["cmdline"] or ()), (one.info["environ"] or {}).get("TMPDIR", "")]
        if one.pid != os.getpid() and any(scratch in word for word in told):
            found.append(Process(pid=one.pid, born=one.info["create_time"]))
    return found


def _end(processes: list[Process]) -> None:
    """End processes and all their children: asked first, then killed."""
    trees: list[psutil.Process] = []
    for process in processes:
        if process.alive():
            parent = psutil.Process(process.pid)
            trees += [*parent.children(recursive=True), parent]
    for one in trees:
        _signal(one, signal.SIGTERM)
    _, left = psutil.wait_procs(trees, timeout=15)
    for one in left:
        _signal(one, signal.SIGKILL)
    psutil.wait_procs(left, timeout=5)


def _signal(process: psutil.Process, number: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def status(settings: Settings) -> dict[str, object]:
    """What runs, as the command line shows it."""
    found = state(settings)
    if found is None:
        return {"running": False, "home": str(settings.home)}
    parts = {name: process.alive() for name, process in found.processes.items()}
    parts["serve"] = _answers(f"{found.serve}/health", tls.trust(settings))
    where = json.loads(found.model_dump_json(exclude={"processes"}))
    return {"running": all(parts.values()), "home": str(settings.home), "parts": parts, **where}
