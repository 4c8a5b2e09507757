"""From what a person gives to files: each given thing to its kind of source, then one list with every name told apart."""

import errno
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

from cluster.domain.documents import Quarantined
from cluster.errors import InvalidInput, TreadleError, Unavailable
from cluster.settings import SourcesSettings
from data_jobs.extract import FORMATS
from data_jobs.sources import paths, remote
from data_jobs.sources.found import Candidate, Failed, Found, Gathered, Haul, NotAllowed, Say, TooLarge, printable, shown, why
from data_jobs.sources.git import Repository
from data_jobs.sources.jira import Issues
from data_jobs.sources.spool import alone, clear_others
from data_jobs.sources.urls import Page

_KINDS: dict[str, Any] = {"git+": Repository, "jira+": Issues, "http://": Page, "https://": Page}


class Source(Protocol):
    """One given thing that is not a local path. ``name`` is how reports call it, free of secrets."""

    @property
    def name(self) -> str: ...

    def slot(self, spool: Path) -> Path:
        """Its directory in the spool."""

    def gather(self, slot: Path, say: Say) -> Haul:
        """Bring its files there. Raises TreadleError when it cannot be used at all."""


def gather(given: Sequence[str], spool: Path, settings: SourcesSettings, say: Say = lambda _: None) -> Gathered:
    """Every file of everything given, each once, in order of source, and a refusal for each thing that cannot be one.

    Raises NotFound or InvalidInput when a given thing cannot be meant, before anything is fetched; Unavailable when nothing could be
    had; Conflict while another process gathers into the same spool. A source that fails where others go on is a refusal, and what the
    spool has of it from earlier is used.
    """
    given = list(dict.fromkeys(given))
    local = [one for one in given if _kind(one) == "path"]
    sources = [_source(one, settings) for one in given if one not in local]
    hauls = [paths.gather(local)]
    try:
        with alone(spool) if sources or spool.is_dir() else nullcontext():
            slots = {source.slot(spool): source for source in sources}
            hauls += [_hauled(source, slot, say) for slot, source in slots.items()]
            clear_others(spool, slots)
    except OSError as error:
        what = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise Unavailable(f"The spool {spool} cannot be written: {what}.") from None
    refused = tuple(sorted((one for haul in hauls for one in haul.refused), key=lambda one: one.source))
    files = _named([one for haul in hauls for one in haul.files])
    if not files:
        raise _nothing(given, refused)
    return Gathered(files, refused)


def _kind(given: str) -> str:
    """How the given thing begins, or "path"."""
    prefix = next((prefix for prefix in _KINDS if given.lower().startswith(prefix)), "")
    if prefix or given.startswith("file://") or "://" not in given:
        return prefix or "path"
    return "remote"


def _source(given: str, settings: SourcesSettings) -> Source:
    source: Source = _KINDS.get(_kind(given), remote.Store).parse(given, settings)
    return source


def _hauled(source: Source, slot: Path, say: Say) -> Haul:
    slot.mkdir(parents=True, exist_ok=True)
    try:
        return source.gather(slot, say)
    except (Failed, NotAllowed, TooLarge) as error:
        haul = Haul()
        haul.refuse(source.name, error.reason, why(error))
        return haul


def _named(candidates: list[Candidate]) -> tuple[Found, ...]:
    """Names told apart: short where that is unambiguous, else long, and numbered where even that is not enough."""
    times = Counter(one.short for one in candidates)
    taken: Counter[str] = Counter()

    def named() -> Iterator[Found]:
        for one in sorted(candidates, key=lambda one: (one.short, one.long, one.path)):
            source = one.short if times[one.short] == 1 else one.long
            taken[source] += 1
            yield Found(one.path, source if taken[source] == 1 else f"{source} ({taken[source]})", one.bytes)

    return tuple(sorted(named(), key=lambda one: one.source))


def _nothing(given: Sequence[str], refused: Sequence[Quarantined]) -> TreadleError:
    names = ", ".join(shown(one) if "://" in one else printable(one) for one in given) or "(nothing given)"
    failed = [one for one in refused if one.reason == Failed.reason]
    if failed:
        return Unavailable(f"Nothing could be had from {names}: {failed[0].detail}")
    if refused:
        return InvalidInput(
            f"There are no files under {names} that can be used; {len(refused)} were refused: {refused[0].detail}"
        )
    return InvalidInput(f"There are no files under {names}; give at least one of {', '.join(sorted(FORMATS))}.")
