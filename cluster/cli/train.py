"""Training: SFT, DPO, the router head, the starter model."""

import subprocess
import sys
from typing import Annotated

import typer

from cluster.cli.console import Detach, Json, emit, home
from cluster.domain.recipes import DpoRecipe, RouterRecipe, SftRecipe
from cluster.errors import JobFailed
from cluster.settings import ROOT, load_recipe

app = typer.Typer(no_args_is_help=True)
RecipeFile = Annotated[str, typer.Option("--recipe", help="A recipe file (YAML).")]


@app.command()
def sft(recipe: RecipeFile, detach: Detach = False, as_json: Json = False) -> None:
    """Fine-tune a LoRA adapter on conversations; makes a release."""
    loaded = load_recipe(SftRecipe, recipe)
    emit(home.launch("train_jobs.sft", loaded, detach), as_json)


@app.command()
def dpo(recipe: RecipeFile, detach: Detach = False, as_json: Json = False) -> None:
    """Continue a release on pairs of better and worse answers; makes a release."""
    loaded = load_recipe(DpoRecipe, recipe)
    emit(home.launch("train_jobs.dpo", loaded, detach), as_json)


@app.command()
def router(recipe: RecipeFile, detach: Detach = False, as_json: Json = False) -> None:
    """Train the router head; makes a release of 'router'."""
    emit(home.launch("train_jobs.router_head", load_recipe(RouterRecipe, recipe), detach), as_json)


@app.command()
def pretrain(
    recipe: RecipeFile = "configs/train/pretrain_starter.yaml", out: str = "models/starter", minutes: float | None = None
) -> None:
    """Make the starter model anew (in this process: it needs no cluster)."""
    command = [sys.executable, "-m", "train_jobs.pretrain", "--recipe", recipe, "--out", out]
    command += ["--minutes", str(minutes)] if minutes else []
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise JobFailed(f"Pretraining with {recipe} failed; its last lines above say why.")
