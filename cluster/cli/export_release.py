"""`treadle releases export`: a release as files for other programs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.catalog import releases
from cluster.cli.console import AskedMode, Detach, Json, emit, home, note, table
from cluster.domain.parsing import parse
from cluster.domain.recipes import ExportRecipe


def export(
    ref: Annotated[str, typer.Argument(help="agent@version, agent@alias or agent.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A directory: new, empty, or an earlier export of the same release.")
    ],
    form: Annotated[str, typer.Option(help="merged (safetensors), gguf, or ollama.")] = "gguf",
    kind: Annotated[str, typer.Option("--type", help="Of a GGUF file: f16, q8_0 or q4_0.")] = "q8_0",
    dtype: Annotated[str, typer.Option(help="Of merged weights: keep, float32, bfloat16 or float16.")] = "keep",
    base: Annotated[str | None, typer.Option(help="Path of the base it was trained on, if another is served.")] = None,
    check: Annotated[bool, typer.Option(help="Compare with the adapter, and keep nothing that drifts.")] = True,
    prompts: Annotated[int, typer.Option(help="Prompts compared.")] = 12,
    mode: AskedMode = None,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Write a release as merged weights, a GGUF file or an Ollama model, and prove that it answers as the adapter does."""
    with home.catalog.reading() as work:
        release = releases.get(work, ref)
    given = {"release": release.ref, "form": form, "type": kind, "dtype": dtype, "check": check, "prompts": prompts}
    recipe: ExportRecipe = parse(
        ExportRecipe, {**given, "base": base, "output": str(output.absolute())}, "treadle releases export"
    )
    found = home.launch_anywhere("train_jobs.export", recipe, detach, mode)
    emit(found, as_json, None if detach else lambda: _show(found))


def _show(found: dict[str, Any]) -> None:
    rows = [(one["name"], f"{one['bytes']:,}", one["sha256"][:12]) for one in found["files"]]
    table(f"{found['release']} in {found['output']}", ("file", "bytes", "sha256"), rows)
    parity = found["parity"]
    if parity:
        same = f"{parity['greedy_equal']:.0%} of {parity['prompts']} greedy texts are the adapter's ({parity['near_ties']} near ties)"
        apart = f"differ by {parity['mean_difference']:.2g} on average, {parity['max_difference']:.2g} at most"
        note(f"{same}; {parity['logits']} {apart}")
    for line in found["notes"]:
        note(line)
    if found["form"] == "ollama":
        agent = found["release"].replace("@", ":")
        note(f"Make it known to Ollama: (cd {found['output']} && ollama create {agent} -f Modelfile)")
