"""Adapters that were trained and could not be registered, because the catalog or the artifact store was away: kept on the machine that
trained them, under ``$TREADLE_HOME/unregistered/<run>``, and registered by ``treadle releases reconcile`` there, or by the run's next
attempt. A folder without its manifest, which is written last, is none.
"""

import logging
import shutil
import time
from pathlib import Path
from typing import Any

from pydantic import Field

from cluster.artifacts import file_digest, write_whole
from cluster.catalog import releases, runs
from cluster.domain.agents import Agent
from cluster.domain.base import Frozen, now
from cluster.domain.releases import Release
from cluster.domain.versions import Bump
from cluster.errors import Conflict, IntegrityError, NotFound, TreadleError, Unavailable, one_sentence
from cluster.registry import Reconciled, Registry

log = logging.getLogger(__name__)
_MANIFEST, _ADAPTER = "unregistered.json", "adapter"
_PAUSES = (1.0, 2.0, 4.0)  # seconds between tries: a database that restarts is back by then


class Registration(Frozen):
    """What ``Registry.register`` takes, but the files."""

    card: Agent
    base_model: str
    base_digest: str
    inputs: tuple[str, ...] = ()
    indexes: dict[str, int] | None = None
    recipe: dict[str, Any] = Field(default_factory=dict)
    parent: str | None = None
    run_id: str
    mlflow_run_id: str | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    bump: Bump | None = None


class _Kept(Frozen):
    registration: Registration
    files: dict[str, str]


def register(registry: Registry, adapter: Path, what: Registration) -> Release:
    """Make a release of the files in ``adapter``, trying for some seconds; where that cannot be, keep them here.

    Raises Unavailable with the place they are kept at, and Conflict when nothing changed since the parent: then nothing is kept.
    """
    for pause in (*_PAUSES, None):
        try:
            return _register(registry, adapter, what)
        except Conflict:
            raise
        except Exception as error:  # hours of training must not end with whatever a database or a store says
            reason = one_sentence(error)
            if pause is None or (isinstance(error, TreadleError) and not isinstance(error, Unavailable)):
                break
            log.warning("run %s cannot be registered yet: %s", what.run_id, reason)
            time.sleep(pause)
    place = _keep(registry.home, adapter, what)
    raise Unavailable(
        f"Run {what.run_id} is trained and its adapter could not be registered: {reason.rstrip('.')}; it is kept in {place}: "
        "treadle releases reconcile on this machine registers it."
    )


def _register(registry: Registry, adapter: Path, what: Registration) -> Release:
    given = {name: getattr(what, name) for name in Registration.model_fields if name != "card"}
    return registry.register(what.card, adapter, **given)


def _keep(home: Path, adapter: Path, what: Registration) -> Path:
    place = home / "unregistered" / what.run_id
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(adapter, place / _ADAPTER)
    kept = _Kept(registration=what, files=_digests(place / _ADAPTER))
    write_whole(place / _MANIFEST, kept.model_dump_json(indent=1).encode())
    return place


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def waiting(home: Path) -> list[str]:
    """The runs whose adapters are kept here."""
    return sorted(file.parent.name for file in (home / "unregistered").glob(f"*/{_MANIFEST}"))


def register_kept(registry: Registry, run_id: str) -> Release:
    """Register what is kept of a run, and keep it no longer. Twice is once. Raises NotFound when nothing is, IntegrityError when its
    files have changed since."""
    place = registry.home / "unregistered" / run_id
    if not (place / _MANIFEST).is_file():
        raise NotFound(f"Nothing is kept of run '{run_id}' in {place.parent}; treadle releases list shows what was registered.")
    try:
        kept = _Kept.model_validate_json((place / _MANIFEST).read_bytes())
    except ValueError:
        raise IntegrityError(f"{place / _MANIFEST} cannot be read; remove the folder and train again.") from None
    found = _digests(place / _ADAPTER)
    for name, digest in kept.files.items():
        if found.get(name) != digest:
            state = "has changed" if name in found else "is missing"
            raise IntegrityError(f"{place / _ADAPTER / name} {state} since it was kept; remove the folder and train again.")
    what = kept.registration
    with registry.catalog.reading() as work:
        family = releases.of_agent(work, what.card.name)
    release = next((one for one in family if one.run_id == run_id), None)
    if release is None:
        release = _register(registry, place / _ADAPTER, what)
    with registry.catalog.transaction() as work:
        runs.change(work, run_id, state="succeeded", result={"release": release.ref}, progress=1.0, finished_at=now())
    shutil.rmtree(place)
    return release


def reconciled(registry: Registry) -> Reconciled:
    """Register everything that is kept here, then tell MLflow what it missed. One that cannot be registered does not stop the others;
    its error is raised at the end."""
    registered: list[str] = []
    failed: TreadleError | None = None
    for run_id in waiting(registry.home):
        try:
            registered.append(register_kept(registry, run_id).ref)
        except TreadleError as error:
            failed = failed or error
    told = registry.reconcile()
    if failed is not None:
        raise failed
    return told.model_copy(update={"registered": tuple(registered)})
