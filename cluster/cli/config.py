"""Settings as this machine sees them."""

import shlex
import sys
from pathlib import Path

import typer

from cluster.cli.console import Json, emit, home, out
from cluster.ray_lifecycle import connection, ray_environment

app = typer.Typer(no_args_is_help=True)


@app.command()
def show(as_json: Json = False) -> None:
    """Show the settings in force."""
    emit(home.settings.model_dump(mode="json"), as_json)


@app.command()
def env(as_json: Json = False) -> None:
    """Print what Ray's own tools need to reach the running cluster: eval "$(treadle config env)"."""
    found = connection(home.settings)
    values = {**home.settings.env, **ray_environment(home.settings), "RAY_ADDRESS": found.dashboard}
    values["MLFLOW_TRACKING_URI"] = found.mlflow or home.settings.mlflow_url
    values["PATH"] = f"{Path(sys.executable).parent}:$PATH"
    lines = [f"export {key}={value if key == 'PATH' else shlex.quote(value)}" for key, value in values.items()]
    emit(values, as_json, lambda: out.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True))
