"""Runs: executions of jobs."""

import typer

from cluster.catalog import runs
from cluster.cli.console import Board, Json, emit, home, note, out, table

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_runs(limit: int = 20, as_json: Json = False) -> None:
    """List the newest runs."""
    with home.catalog.reading() as work:
        found = runs.recent(work, limit)
    rows = [(one.id, one.title, one.state, f"{one.progress:.0%}", one.attempts, one.error or one.message) for one in found]
    value = [one.model_dump(mode="json") for one in found]
    emit(value, as_json, lambda: table("Runs", ("run", "what", "state", "done", "attempts", "note"), rows))


@app.command()
def show(run: str, as_json: Json = False) -> None:
    """Show a run with its recipe and result."""
    with home.catalog.reading() as work:
        found = runs.get(work, run)
    emit(found.model_dump(mode="json"), as_json)


@app.command()
def follow(run: str, as_json: Json = False) -> None:
    """Follow a run until it is over."""
    with home.catalog.reading() as work:
        found = runs.get(work, run)
    with Board() as board:
        done = home.submitter.follow(found, board.watch())
    emit(done.result, as_json)


@app.command()
def logs(run: str, as_json: Json = False) -> None:
    """Print what a run's process printed."""
    text = home.submitter.logs(run)
    emit({"run": run, "log": text}, as_json, lambda: out.print(text, markup=False, highlight=False))


@app.command()
def cancel(run: str, as_json: Json = False) -> None:
    """Stop a run."""
    done = home.submitter.cancel(run)
    emit({"run": done.id, "state": done.state}, as_json, lambda: note(f"{done.id} is {done.state}"))
