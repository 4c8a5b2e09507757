"""The job's side of a run: load my recipe, report progress, finish or fail.

    def main(argv=None) -> int:
        return job_run.main("train_jobs.sft", SftRecipe, train, argv)

``--run ID`` takes the recipe from the catalog (how control launches work); ``--recipe FILE`` records a run of its own first, so that
``ray job submit -- python -m train_jobs.sft --recipe FILE`` leaves the same traces.
"""

import argparse
import json
import logging
import sys
import time
import traceback
from functools import cached_property
from typing import Any, Callable, Sequence, TypeVar

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog, runs
from cluster.domain.base import Frozen, now
from cluster.domain.parsing import parse
from cluster.domain.runs import MAX_ATTEMPTS, Run
from cluster.errors import RecipeError, TreadleError, Unavailable, one_sentence
from cluster.registry import Registry
from cluster.settings import Settings, load_recipe, load_settings

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Frozen)
_BACKOFF_SECONDS = 2.0
_REPORT_SECONDS = 0.4


class JobRun:
    """What a job is given beside its recipe."""

    def __init__(self, settings: Settings, run: Run, local: bool = False) -> None:
        self.settings, self.run, self.local = settings, run, local
        self.catalog = Catalog(settings.catalog_url)
        self.artifacts = Artifacts(settings.artifacts_url, settings.home / "cache")
        self._reported = 0.0

    @cached_property
    def registry(self) -> Registry:
        """The registry, opened when first asked for."""
        return Registry(self.settings, self.catalog, self.artifacts)

    def progress(self, fraction: float, message: str = "", **metrics: float) -> None:
        """Note how far the run is (0 to 1), what it does, and its newest figures. Written at most every 0.4 s;
        a catalog that is away costs the note, not the run."""
        moment = time.monotonic()
        if moment - self._reported < _REPORT_SECONDS and fraction < 1.0:
            return
        self._reported = moment
        try:
            with self.catalog.transaction() as work:
                known = runs.get(work, self.run.id)
                changes = {"progress": max(0.0, min(1.0, fraction)), "message": message or known.message}
                runs.change(work, self.run.id, **changes, metrics={**known.metrics, **metrics})
        except Unavailable as error:  # work goes on without its progress bar
            log.warning("%s (%.0f %%): %s", message, 100 * fraction, error.message)

    def cancelled(self) -> bool:
        """Whether somebody cancelled this run."""
        with self.catalog.reading() as work:
            return runs.get(work, self.run.id).state == "cancelled"


def main(job: str, kind: type[R], work: Callable[[JobRun, R], dict[str, Any]], argv: Sequence[str] | None = None) -> int:
    """Run a job from the command line; returns the exit code. The result is printed as one line of JSON on stdout."""
    parser = argparse.ArgumentParser(prog=f"python -m {job}", description=f"Treadle's job {job}.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", help="a run in the catalog, whose recipe is used")
    source.add_argument("--recipe", help="a recipe file (YAML); a run is recorded for it")
    parser.add_argument("--local", action="store_true", help="on this machine, with a Ray of its own, whatever cluster runs")
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        settings = load_settings()
        catalog = Catalog(settings.catalog_url).prepare()
        if given.run:
            with catalog.reading() as reading:
                run = runs.get(reading, given.run)
            recipe: R = parse(kind, run.recipe, f"Run {run.id}", RecipeError)
        else:
            recipe = load_recipe(kind, given.recipe)
            run = Run(job=job, recipe=recipe.model_dump(mode="json"))
            with catalog.transaction() as writing:
                runs.save(writing, run)
    except TreadleError as error:
        print(f"{job}: {error.message}", file=sys.stderr)
        return 2
    try:
        return _attempts(JobRun(settings, run, given.local), recipe, work)
    except Unavailable as error:  # the catalog is away, and so the run's record cannot say it
        print(f"{job}: {error.message}", file=sys.stderr)
        return 1


def _attempts(job: JobRun, recipe: R, work: Callable[[JobRun, R], dict[str, Any]]) -> int:
    """Known errors fail at once (trying again would not help); unknown ones are tried again, with a pause, up to 3 attempts."""
    while True:
        with job.catalog.transaction() as writing:
            run = runs.get(writing, job.run.id)
            if run.over:
                print(f"Run {run.id} is {run.state} already; nothing was done.", file=sys.stderr)
                return 0 if run.state == "succeeded" else 1
            changes = {"state": "running", "attempts": run.attempts + 1, "started_at": run.started_at or now()}
            run = runs.change(writing, run.id, **changes)
        job.run = run
        try:
            result = work(job, recipe)
        except Exception as error:
            known = isinstance(error, TreadleError)
            if not known:
                traceback.print_exc()
            if known or run.attempts >= MAX_ATTEMPTS:
                print(f"{job.run.job}: {one_sentence(error)}", file=sys.stderr)
                _finish(job, state="failed", error=one_sentence(error))
                return 1
            job.progress(run.progress, f"attempt {run.attempts} of {MAX_ATTEMPTS} failed ({one_sentence(error)}); trying again")
            time.sleep(_BACKOFF_SECONDS * 2 ** (run.attempts - 1))
        else:
            _finish(job, state="succeeded", result=result, progress=1.0)
            print(json.dumps({"run": job.run.id, **result}, default=str))
            return 0


def _finish(job: JobRun, **changes: Any) -> None:
    with job.catalog.transaction() as writing:
        runs.change(writing, job.run.id, finished_at=now(), **changes)
