"""Control's side of a run: record it, submit it to Ray by name, follow it, cancel it.

A run is in the catalog before it is in Ray. A job whose process died without a word (killed, node lost, the whole Ray gone) is submitted
again while it has attempts left; it finds its own checkpoints. Whoever asks for a run that is going on already, because the one who
asked first was killed, follows that one.
"""

import os
import subprocess
import sys
import time
from typing import Any, Callable

from cluster import warm
from cluster.catalog import Catalog, runs
from cluster.domain.base import Frozen, now
from cluster.domain.runs import JOBS, MAX_ATTEMPTS, Run
from cluster.errors import InvalidInput, JobFailed, Unavailable, near
from cluster.ray_lifecycle import connection, state
from cluster.settings import ROOT, Settings

_POLL_SECONDS = 0.25
_ASK_RAY_SECONDS = 3.0
_UNSENT_SECONDS = 60.0
_ENDED = ("FAILED", "STOPPED", "SUCCEEDED", "LOST")
WARM_JOBS = ("train_jobs.sft", "train_jobs.dpo")
"""Jobs whose processes import for many seconds: they are kept warm."""
Watcher = Callable[[Run], None]


class Submitter:
    """Launches work by name on the running cluster."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self._settings, self._catalog = settings, catalog
        self._client: Any = None

    @property
    def client(self) -> Any:
        """Ray's job client. Raises Unavailable when no cluster runs."""
        if self._client is None:
            address = connection(self._settings).dashboard
            from ray.job_submission import JobSubmissionClient

            try:
                self._client = JobSubmissionClient(address)
            except (ConnectionError, RuntimeError) as error:
                raise Unavailable(f"Ray's job server at {address} does not answer ({error}); start it with: treadle up") from None
        return self._client

    def submit(self, job: str, recipe: Frozen) -> Run:
        """Record a run of ``job`` and hand it to Ray."""
        if job not in JOBS:
            close = near(job, JOBS)
            raise InvalidInput(
                f"There is no job '{job}'; " + (f"did you mean {close[0]}?" if close else f"jobs are {', '.join(JOBS)}.")
            )
        client = self.client
        run = Run(job=job, recipe=recipe.model_dump(mode="json"))
        with self._catalog.transaction() as work:
            runs.save(work, run)
        return self._launch(client, run)

    def _launch(self, client: Any, run: Run) -> Run:
        submission = f"{run.id}-{run.attempts + 1}-{int(time.time())}"
        local = self._settings.ray.address is None
        runtime: dict[str, Any] = {"env_vars": self._settings.env}
        if self._settings.ray.working_dir:
            runtime["working_dir"] = "."
        with self._catalog.transaction() as work:
            run = runs.change(work, run.id, submission_id=submission)
        python = "python"  # what it is called on somebody else's cluster
        if local:
            found = state(self._settings)
            scratch = found.scratch if found and run.job in WARM_JOBS else None
            python = warm.python(scratch)
            if scratch is not None:  # the job's supervisor too
                runtime["py_executable"] = python
        client.submit_job(entrypoint=f"{python} -m {run.job} --run {run.id}", submission_id=submission, runtime_env=runtime)
        return run

    def follow(self, run: Run, watch: Watcher | None = None) -> Run:
        """Wait until the run is over, showing each change to ``watch``. Raises JobFailed with the run's own sentence."""
        asked = time.monotonic()
        seen: Run | None = None
        while True:
            with self._catalog.reading() as work:
                run = runs.get(work, run.id)
            if watch is not None and run != seen:
                watch(run)
            seen = run
            if run.state == "succeeded":
                return run
            if run.over:
                raise JobFailed(
                    f"Run {run.id} ({run.job}) {run.state}: {run.error or 'no reason was left'} (treadle runs logs {run.id})"
                )
            if time.monotonic() - asked > _ASK_RAY_SECONDS:
                asked = time.monotonic()
                run = self._revive(run)
            time.sleep(_POLL_SECONDS)

    def _revive(self, run: Run) -> Run:
        """Submit again a run whose Ray job ended without finishing it; fail it when its attempts are used up."""
        status = self._ray_status(run)
        if status not in _ENDED:
            return run
        with self._catalog.reading() as work:
            run = runs.get(work, run.id)
        if run.over:
            return run
        if run.attempts >= MAX_ATTEMPTS or (run.attempts == 0 and status != "LOST"):
            log = [] if status == "LOST" else self.client.get_job_logs(run.submission_id).strip().splitlines()
            reason = log[-1] if log else f"its process ended ({status}) without a word"
            with self._catalog.transaction() as work:
                return runs.change(work, run.id, state="failed", error=reason, finished_at=now())
        return self._launch(self.client, run)

    def _ray_status(self, run: Run) -> str:
        """What Ray says of the run's newest submission; LOST when this Ray never heard of it."""
        if run.submission_id is None:
            unsent = run.state == "queued" and (now() - run.created_at).total_seconds() > _UNSENT_SECONDS
            return "LOST" if unsent else "PENDING"
        try:
            return str(self.client.get_job_status(run.submission_id))
        except RuntimeError as error:
            if "does not exist" in str(error):
                return "LOST"
            raise

    def run(self, job: str, recipe: Frozen, watch: Watcher | None = None) -> dict[str, Any]:
        """Submit, follow, and return the result. A run of the same job and recipe that is not over is followed instead."""
        done = self.follow(self._going(job, recipe) or self.submit(job, recipe), watch)
        return done.result or {}

    def _going(self, job: str, recipe: Frozen) -> Run | None:
        """A run of the same recipe that is not over. One that somebody started by hand has no submission to ask Ray about, so nobody
        here can tell whether it lives: it is left alone."""
        wanted = recipe.model_dump(mode="json")
        with self._catalog.reading() as work:
            alike = [run for run in runs.of_job(work, job) if not run.over and run.recipe == wanted]
        return next((run for run in alike if run.submission_id or run.state == "queued"), None)

    def cancel(self, run_id: str) -> Run:
        """Stop a run. One that is over stays as it ended."""
        with self._catalog.transaction() as work:
            before = runs.get(work, run_id)
            run = runs.change(work, run_id, state="cancelled", error="cancelled by hand", finished_at=now())
        if not before.over and run.submission_id:
            self.client.stop_job(run.submission_id)
        return run

    def logs(self, run_id: str) -> str:
        """Everything the run's process printed."""
        with self._catalog.reading() as work:
            run = runs.get(work, run_id)
        if not run.submission_id:
            return run.error or ""
        return str(self.client.get_job_logs(run.submission_id))


def run_here(settings: Settings, catalog: Catalog, job: str, recipe: Frozen, watch: Watcher | None = None) -> Run:
    """Record a run and do it in a process of this machine, without the cluster; follows it to its end. Raises JobFailed with the run's
    own sentence. What the process prints goes to a log in the home's ``logs``."""
    run = Run(job=job, recipe=recipe.model_dump(mode="json"))
    with catalog.transaction() as work:
        runs.save(work, run)
    log = settings.home / "logs" / f"{run.id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        command = [sys.executable, "-m", job, "--run", run.id, "--local"]
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings.env}, stdout=output, stderr=subprocess.STDOUT)
    try:
        while True:
            ended = process.poll() is not None
            with catalog.reading() as work:
                run = runs.get(work, run.id)
            if watch is not None:
                watch(run)
            if ended:
                break
            time.sleep(_POLL_SECONDS)
    except BaseException:  # Ctrl-C among others: nothing is left behind that nobody follows
        process.terminate()
        process.wait()
        raise
    if run.state == "succeeded":
        return run
    if not run.over:
        with catalog.transaction() as work:
            run = runs.change(work, run.id, state="failed", error=f"its process ended ({process.returncode})", finished_at=now())
    raise JobFailed(f"Run {run.id} ({run.job}) {run.state}: {run.error or 'no reason was left'} (its log: {log})")
