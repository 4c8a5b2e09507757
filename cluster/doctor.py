"""What this machine has, and what it lacks: each check says what was found and the way out."""

import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from cluster.domain.base import Frozen
from cluster.errors import Conflict
from cluster.ray_lifecycle import claim_port, state
from cluster.settings import ROOT, Settings, cpu_cores

_PARTS = ("ray", "torch", "transformers", "peft", "trl", "deepspeed", "mlflow", "fastapi", "pydantic")
_GIB = 2**30


class Check(Frozen):
    """One look at the machine. ``needed``: Treadle does not work without it."""

    name: str
    good: bool
    needed: bool
    found: str
    advice: str = ""


def examine(settings: Settings) -> list[Check]:
    """Every check, in the order a person would mend things."""
    return [_python(), _compiler(), _memory(), _disk(settings), *_ports(settings), _gpu(settings), _packages(settings)]


def _python() -> Check:
    found = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    good = sys.version_info >= (3, 11)
    return Check(name="Python", good=good, needed=True, found=found, advice="" if good else "install Python 3.11 or newer")


def _compiler() -> Check:
    compiler = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
    advice = "" if compiler else "install one (Debian: apt-get install g++ make); DeepSpeed compiles a small part on first use"
    return Check(name="C++ compiler", good=bool(compiler), needed=True, found=compiler or "none", advice=advice)


def _memory() -> Check:
    memory = psutil.virtual_memory()
    free, good = memory.available / _GIB, memory.available >= 6 * _GIB
    advice = "" if good else "close something: the demo needs 6 GiB"
    return Check(name="memory", good=good, needed=True, found=f"{free:.1f} GiB free, {cpu_cores()} cores", advice=advice)


def _disk(settings: Settings) -> Check:
    place = settings.home
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    advice = "" if free >= 3 * _GIB else f"free some space under {place}, or set TREADLE_HOME elsewhere"
    return Check(
        name="disk", good=free >= 3 * _GIB, needed=True, found=f"{free / _GIB:.1f} GiB free under {place}", advice=advice
    )


def _ports(settings: Settings) -> list[Check]:
    if state(settings) is not None:
        return [Check(name="ports", good=True, needed=False, found="held by the running cluster")]
    checks = []
    wanted = (
        ("the HTTP endpoint", settings.serve.port, "serve.port"),
        ("MLflow", settings.mlflow.port, "mlflow.port"),
        ("Ray", settings.ray.gcs_port, "ray.gcs_port"),
        ("Ray's dashboard", settings.ray.dashboard_port, "ray.dashboard_port"),
    )
    for what, port, key in wanted:
        try:
            claim_port(port, what, key)
            checks.append(Check(name=f"port of {what}", good=True, needed=True, found=f"{port} is free" if port else "any"))
        except Conflict as error:
            checks.append(Check(name=f"port of {what}", good=False, needed=True, found=f"{port} is in use", advice=error.message))
    return checks


def _needs_gpu(settings: Settings) -> bool:
    return any(settings.for_base(role.name).engine.device == "gpu" for role in settings.bases)


def _gpu(settings: Settings) -> Check:
    needed = _needs_gpu(settings)
    tool = shutil.which("nvidia-smi")
    found = "none"
    if tool:
        asked = subprocess.run(
            [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"], capture_output=True, text=True, check=False
        )
        found = asked.stdout.strip().replace("\n", "; ") or "none"
    advice = (
        ""
        if found != "none"
        else "use TREADLE_PROFILE=laptop, or a machine with a GPU"
        if needed
        else "not needed by this profile"
    )
    return Check(name="GPU", good=found != "none", needed=needed, found=found, advice=advice)


def _packages(settings: Settings) -> Check:
    """The heavy parts, as installed against the lock of this profile."""
    wrong = []
    lock = ROOT / "locks" / ("gpu.txt" if _needs_gpu(settings) else "cpu.txt")
    locked = _locked(lock) if lock.exists() else {}
    for part in _PARTS:
        try:
            have = version(part)
        except PackageNotFoundError:
            wrong.append(f"{part} is not installed")
            continue
        want = locked.get(part)
        if want and want.split("+")[0] != have.split("+")[0]:
            wrong.append(f"{part} is {have}, the lock says {want}")
    advice = f"run: make setup PROFILE={lock.stem}" if wrong else ""
    return Check(name="packages", good=not wrong, needed=True, found="; ".join(wrong) or "as locked", advice=advice)


def _locked(file: Path) -> dict[str, str]:
    pins = (
        line.split("==")
        for line in file.read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith((" ", "#"))
    )
    return {name.strip(): pinned.split(";")[0].strip() for name, pinned in pins}
