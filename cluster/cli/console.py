"""What all commands share: this home's parts, and how things are shown.

``--json`` puts one JSON value on stdout; everything else (progress, tables for people, errors) goes to stderr or is left out.
"""

import json
import sys
from functools import cached_property
from typing import Annotated, Any, Callable, Iterable, Literal, Sequence

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog
from cluster.domain.base import Frozen
from cluster.domain.runs import Run
from cluster.errors import InvalidInput
from cluster.job_submission import Submitter, Watcher, run_here
from cluster.ray_lifecycle import reachable
from cluster.registry import Registry
from cluster.settings import Settings, load_settings

Json = Annotated[bool, typer.Option("--json", help="One JSON value on stdout; everything else on stderr.")]
Mode = Literal["local", "cluster"]
AskedMode = Annotated[
    Mode | None,
    typer.Option(
        help="local: on this machine, with a Ray of its own; cluster: on the running cluster. Default: cluster, if one runs."
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="Submit and return at once; treadle runs list shows how it goes.")]
out, err = Console(), Console(stderr=True)


class Home:
    """The parts of one TREADLE_HOME, opened when first asked for."""

    @cached_property
    def settings(self) -> Settings:
        return load_settings()

    @cached_property
    def catalog(self) -> Catalog:
        return Catalog(self.settings.catalog_url).prepare()

    @cached_property
    def artifacts(self) -> Artifacts:
        return Artifacts(self.settings.artifacts_url, self.settings.home / "cache")

    @cached_property
    def registry(self) -> Registry:
        return Registry(self.settings, self.catalog, self.artifacts)

    @cached_property
    def submitter(self) -> Submitter:
        return Submitter(self.settings, self.catalog)

    def launch_anywhere(self, job: str, recipe: Frozen, detach: bool, mode: Mode | None) -> dict[str, Any]:
        """A job that needs no cluster: on the one that runs, else (or when ``mode`` says so) on this machine, with a Ray of its own."""
        if mode == "cluster" or (mode is None and reachable(self.settings)):
            return self.launch(job, recipe, detach)
        if detach:
            why = "--mode local asks for none" if mode else f"none runs for {self.settings.home}"
            raise InvalidInput(
                f"--detach leaves a job on a cluster, and {why}; start one with treadle up, or leave --detach out."
            )
        with Board() as board:
            done = run_here(self.settings, self.catalog, job, recipe, board.watch())
        return {"run": done.id, **(done.result or {})}

    def launch(self, job: str, recipe: Frozen, detach: bool) -> dict[str, Any]:
        """Submit a job to the cluster and follow it with a progress bar, or leave it running. Raises Unavailable when no cluster runs."""
        run = self.submitter.submit(job, recipe)
        if detach:
            return {"run": run.id, "state": run.state}
        with Board() as board:
            done = self.submitter.follow(run, board.watch())
        return {"run": done.id, **(done.result or {})}


home = Home()


class Board:
    """Progress bars on stderr, one for each run: ``with Board() as board: submitter.follow(run, board.watch())``."""

    def __init__(self) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.percentage:>3.0f}%"))
        self._progress = Progress(*columns, TimeElapsedColumn(), TextColumn("{task.fields[note]}"), console=err)

    def __enter__(self) -> "Board":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def watch(self) -> Watcher:
        """A bar of its own for one run, drawn when the run is first seen."""
        task: list[TaskID] = []

        def show(run: Run) -> None:
            if not task:
                task.append(self._progress.add_task(run.title, total=1.0, note=""))
            figures = " ".join(f"{name} {value:.4g}" for name, value in list(run.metrics.items())[:4])
            done = 1.0 if run.state == "succeeded" else run.progress
            self._progress.update(task[0], completed=done, note=run.state if run.over else f"{run.message} {figures}".strip())
            if run.over:
                self._progress.stop_task(task[0])

        return show


def note(text: str) -> None:
    """A line for people, on stderr."""
    err.print(text, highlight=False)


def emit(value: Any, as_json: bool, show: Callable[[], None] | None = None) -> None:
    """The command's result: JSON on stdout, or what ``show`` prints (by default the same JSON, indented)."""
    if as_json:
        sys.stdout.write(json.dumps(value, default=str) + "\n")
    elif show is not None:
        show()
    else:
        out.print_json(json.dumps(value, default=str))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout."""
    drawn = Table(*columns, title=title, title_justify="left", header_style="bold")
    for row in rows:
        drawn.add_row(*("" if cell is None else str(cell) for cell in row))
    out.print(drawn)
