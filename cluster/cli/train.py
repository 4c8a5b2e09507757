"""Training: SFT, DPO, the router head, the starter model."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from cluster.artifacts import write_whole
from cluster.cli.console import Detach, Json, emit, home, note, table
from cluster.domain.fitting import gib
from cluster.domain.recipes import DpoRecipe, GuardRecipe, RouterRecipe, SftRecipe, TuneRecipe
from cluster.domain.tuning import base_recipe, check_space
from cluster.errors import InvalidInput, JobFailed, RecipeError
from cluster.settings import ROOT, load_recipe, load_train_recipe, whole_tune_recipe
from cluster.train_plan import TrainPlan, planned

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
def guard(recipe: RecipeFile, detach: Detach = False, as_json: Json = False) -> None:
    """Train the guard's classifier; makes a release of 'guard'."""
    emit(home.launch("train_jobs.guard_head", load_recipe(GuardRecipe, recipe), detach), as_json)


@app.command()
def tune(
    recipe: RecipeFile,
    out: Annotated[str | None, typer.Option("--out", help="Write the winner there, a recipe file.")] = None,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Search over fields of a recipe; the winner is a recipe file."""
    if out and detach:
        raise InvalidInput("--out is written when the search is over, and --detach does not wait for it; leave one of them out.")
    loaded = whole_tune_recipe(load_recipe(TuneRecipe, recipe))
    check_space(loaded, base_recipe(loaded))
    found = home.launch("train_jobs.tune", loaded, detach)
    if out:
        write_whole(Path(out), str(found["winner"]).encode())
        note(f"{out} is the winner.")
    emit(found, as_json)


@app.command()
def plan(
    recipe: RecipeFile,
    gpu_memory: Annotated[
        float | None, typer.Option("--gpu-memory", min=1.0, help="GiB of one GPU. Default: the smallest of this machine.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say how much memory an SFT or DPO recipe needs per worker, and what makes it fit. Trains nothing."""
    found = planned(home.settings, load_train_recipe(recipe), gpu_memory)
    counted = found.memory
    value = {
        **found.model_dump(mode="json"),
        "needed": counted.total(),
        "needed_without_margin": counted.total(margin=False),
        "host_needed": counted.total("host"),
        "sentence": found.sentence,
    }
    emit(value, as_json, lambda: _show(found))
    if found.verdict == "does not fit":
        raise RecipeError(f"{recipe}: {found.sentence}")


def _show(found: TrainPlan) -> None:
    counted = found.memory
    rows = [(item.name, gib(item.bytes), item.where, item.how) for item in counted.used]
    rows.append(("sum with margin", gib(counted.total()), "device", ""))
    if counted.total("host"):
        rows.append(("sum with margin", gib(counted.total("host")), "host", ""))
    table(f"Memory of one worker: {found.base}", ("item", "size", "where", "how"), rows)
    note(f"{counted.tokens_per_step:,} tokens a step at most; {counted.adapter_parameters / 1e6:.1f} M trained parameters.")
    if found.verdict != "does not fit":
        note(found.sentence)


@app.command()
def pretrain(
    recipe: RecipeFile = "configs/train/pretrain_starter.yaml", out: str = "models/starter", minutes: float | None = None
) -> None:
    """Make the starter model anew (in this process: it needs no cluster)."""
    command = [sys.executable, "-m", "train_jobs.pretrain", "--recipe", recipe, "--out", out]
    command += ["--minutes", str(minutes)] if minutes else []
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise JobFailed(f"Pretraining with {recipe} failed; its last lines above say why.")
