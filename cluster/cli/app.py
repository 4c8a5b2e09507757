"""`treadle`: the root command."""

import sys
from typing import Annotated, Any

import typer

from cluster.cli import (
    agents,
    audit,
    config,
    cycle,
    data,
    evals,
    experiments,
    export_release,
    guard,
    keys,
    releases,
    runs,
    signals,
    train,
    users,
)
from cluster.cli.console import Json, emit, err, home, note, table
from cluster.errors import TreadleError

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for name, words in {
    "data": data,
    "agents": agents,
    "train": train,
    "eval": evals,
    "releases": releases,
    "experiments": experiments,
    "signals": signals,
    "guard": guard,
    "cycle": cycle,
    "runs": runs,
    "users": users,
    "keys": keys,
    "audit": audit,
    "config": config,
}.items():
    app.add_typer(words.app, name=name, help=words.__doc__)
releases.app.command("export")(export_release.export)


@app.command()
def up(serve: Annotated[bool, typer.Option(help="Also start the HTTP endpoint.")] = True, as_json: Json = False) -> None:
    """Start the cluster on this machine: Ray, MLflow, and the HTTP endpoint."""
    from cluster import ray_lifecycle
    from cluster.access import own_key

    home.catalog  # noqa: B018  (the schema is brought up to date before anything starts)
    started = ray_lifecycle.start(home.settings, note)
    own_key(home.settings, home.catalog)
    if serve:
        ray_lifecycle.deploy(home.settings, note)
    emit(started.model_dump(mode="json"), as_json, lambda: _where(started))


def _where(started: Any) -> None:
    rows = [("endpoint", f"{started.serve}/v1"), ("MLflow", started.mlflow), ("Ray dashboard", started.dashboard)]
    table("Treadle is up", ("part", "address"), rows)
    note("Ask it: treadle chat    Stop it: treadle down    Keys for other clients: treadle keys create NAME")


@app.command()
def down(as_json: Json = False) -> None:
    """Stop everything that `treadle up` started."""
    from cluster import ray_lifecycle

    ray_lifecycle.stop(home.settings, note)
    emit({"running": False}, as_json, lambda: note("stopped"))


@app.command()
def status(as_json: Json = False) -> None:
    """Say what runs, and where it listens."""
    from cluster import ray_lifecycle

    found = ray_lifecycle.status(home.settings)
    emit(found, as_json, lambda: table("Treadle", ("what", "value"), list(found.items())))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this machine: Python, compiler, memory, disk, ports, GPU, the locked packages."""
    from cluster.doctor import examine

    checks = examine(home.settings)
    rows = [
        ("ok" if check.good else "missing" if check.needed else "note", check.name, check.found, check.advice) for check in checks
    ]
    emit(
        [check.model_dump() for check in checks], as_json, lambda: table("treadle doctor", ("", "what", "found", "advice"), rows)
    )
    if any(check.needed and not check.good for check in checks):
        raise typer.Exit(1)


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Stop everything at the end.")] = False,
    plan: Annotated[str, typer.Option(help="The demo's plan.")] = "configs/demo/demo.yaml",
    since: Annotated[
        float | None, typer.Option(help="When set-up began (seconds since the epoch), to be counted.", hidden=True)
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn the whole wheel once on the shipped samples, and report what it did."""
    from cluster.cli.demo import play

    emit(play(home, plan, once, since), as_json, lambda: None)


@app.command()
def chat(
    message: Annotated[str | None, typer.Argument(help="One question; without it, a conversation.")] = None,
    model: Annotated[str, typer.Option(help="auto, an agent, agent@version, or the base model.")] = "auto",
    as_json: Json = False,
) -> None:
    """Talk to the agents."""
    from cluster.cli.chat import ask, converse

    if message is None:
        converse(home, model)
        return
    answer = ask(home, model, [{"role": "user", "content": message}], stream=not as_json)
    emit(answer, as_json, lambda: None)


def main() -> None:
    """Entry point: errors become one sentence on stderr and exit code 1."""
    try:
        app()
    except TreadleError as error:
        err.print(f"treadle: {error.message}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("treadle: interrupted", style="red")
        sys.exit(130)


if __name__ == "__main__":
    main()
