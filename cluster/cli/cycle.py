"""The wheel: wash, train, gate, promote, improve."""

from typing import Annotated, Any, Iterator

import typer

from cluster.cli.console import Board, Json, emit, home, table
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
        steps = Wheel(home.settings, home.catalog, home.registry, home.submitter).outlook(loaded)
        rows = [(one.step, one.title, "runs" if one.runs else "rests", one.because) for one in steps]
        value = [one.model_dump(mode="json") for one in steps]
        emit(value, as_json, lambda: table("A turn would do", ("step", "job", "", "because"), rows))
        return
    with Board() as board:
        wheel = Wheel(home.settings, home.catalog, home.registry, home.submitter, board.watch)
        done = wheel.turn(loaded)
    emit(done, as_json, lambda: table("The turn", ("step", "what came of it"), _lines(done)))


def _lines(done: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What each step did, for people."""
    for one in done["gathered"]:
        name = one.get("corpus") or one["dataset"]
        size = f"{one['passages']} passages" if "corpus" in one else f"{one['rows']} rows"
        yield "gather", f"{name}: {size}" + ("" if one["changed"] else ", unchanged")
    for one in done["decided"]:
        yield "decide", f"{one['step']} {one['agent']}: {one['does']}, because {'; '.join(one['why'])}"
    yield "teach", ", ".join(done["taught"]) or "nothing new to learn"
    yield from (("admit", _judged(one)) for one in done["admitted"])
    heard = done["heard"]["signals"]
    yield "listen", f"{heard['in']} signals waited, {heard['used']} became rows or questions"
    yield "improve", ", ".join(done["improved"]) or "no new pairs"
    yield from (("gate", _judged(one)) for one in done["admitted_after"])


def _judged(verdict: dict[str, Any]) -> str:
    return f"{verdict['challenger']}: {verdict['verdict']}. {' '.join(verdict['reasons'])}"
