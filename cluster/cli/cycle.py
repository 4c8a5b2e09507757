"""The wheel: wash, train, gate, promote, improve."""

from typing import Annotated

import typer

from cluster.cli.console import Board, Json, emit, home
from cluster.flywheel import Plan, Wheel
from cluster.settings import load_recipe

app = typer.Typer(no_args_is_help=True)


@app.command()
def run(
    plan: Annotated[str, typer.Option(help="A plan file (YAML).")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Turn the wheel once: documents and conversations in, signals in, better releases out."""
    loaded: Plan = load_recipe(Plan, plan)
    if dry_run:
        steps = [{"job": job, "recipe": recipe.model_dump(mode="json")} for job, recipe in loaded.jobs()]
        emit(steps, as_json)
        return
    with Board() as board:
        wheel = Wheel(home.settings, home.catalog, home.registry, home.submitter, board.watch)
        done = wheel.turn(loaded)
    emit(done, as_json)
