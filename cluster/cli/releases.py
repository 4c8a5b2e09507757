"""Releases: list, compare, promote, roll back."""

from typing import Annotated

import typer

from cluster.catalog import forgotten, releases
from cluster.cli.console import Json, emit, home, note, out, table
from cluster.domain.releases import ReleaseDiff

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_releases(agent: Annotated[str | None, typer.Argument()] = None, as_json: Json = False) -> None:
    """List releases, newest first, with their aliases."""
    with home.catalog.reading() as work:
        found = releases.of_agent(work, agent) if agent else releases.everything(work)
        names: dict[tuple[str, str], list[str]] = {}
        for (owner, alias), version in releases.all_aliases(work).items():
            names.setdefault((owner, version), []).append(alias)
        marked = forgotten.marks(work, "release")
    rows = [
        (
            one.ref,
            ", ".join(names.get((one.agent, one.version), [])),
            one.reason,
            one.parent,
            one.digest[:12],
            marked.get(one.ref, ""),
        )
        for one in found
    ]
    value = [
        {
            **one.model_dump(mode="json", exclude={"card"}),
            "aliases": names.get((one.agent, one.version), []),
            "rebuild": marked.get(one.ref),
        }
        for one in found
    ]
    columns = ("release", "aliases", "because", "parent", "digest", "to be built again")
    emit(value, as_json, lambda: table("Releases", columns, rows))


@app.command()
def show(ref: str, as_json: Json = False) -> None:
    """Show everything a release is made of."""
    with home.catalog.reading() as work:
        release = releases.get(work, ref)
    emit({**release.model_dump(mode="json"), "digest": release.digest}, as_json)


@app.command()
def diff(before: str, after: str, as_json: Json = False) -> None:
    """Show what changed between two releases: rows, recipe, metrics, answers."""
    found = home.registry.compare(before, after)
    emit(found.model_dump(mode="json"), as_json, lambda: show_diff(found))


def show_diff(found: ReleaseDiff, answers: int = 3) -> None:
    """The difference as a table, with some of the answers that changed."""
    rows: list[tuple[object, ...]] = []
    for part in ("card", "recipe", "metrics", "indexes"):
        rows += [(f"{part}.{key}", _short(before), _short(after)) for key, (before, after) in getattr(found, part).items()]
    rows.append(("dataset rows", f"-{found.rows_removed}", f"+{found.rows_added}"))
    table(f"{found.before} → {found.after}", ("what", "before", "after"), rows)
    for name, changes in found.answers.items():
        better = sum(change.passed_after and not change.passed_before for change in changes)
        worse = sum(change.passed_before and not change.passed_after for change in changes)
        out.print(f"{name}: {len(changes)} answers changed, {better} better, {worse} worse", highlight=False)
        for change in changes[:answers]:
            out.print(f"  - {change.before}\n  + {change.after}", highlight=False, markup=False)


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value


@app.command()
def promote(
    ref: Annotated[str, typer.Argument(help="agent@version")],
    reason: Annotated[str, typer.Option(help="Why.")] = "promoted by hand",
    as_json: Json = False,
) -> None:
    """Make a release its agent's champion; the endpoint follows within a second."""
    release = home.registry.promote(ref, reason)
    emit({"champion": release.ref}, as_json, lambda: note(f"{release.ref} is the champion"))


@app.command()
def rollback(
    agent: str, reason: Annotated[str, typer.Option(help="Why.")] = "rolled back by hand", as_json: Json = False
) -> None:
    """Give an agent back the champion it had before."""
    release = home.registry.rollback(agent, reason)
    emit({"champion": release.ref}, as_json, lambda: note(f"{release.ref} is the champion again"))


@app.command()
def reconcile(as_json: Json = False) -> None:
    """Tell MLflow of every release it missed."""
    count = home.registry.reconcile()
    emit({"releases": count}, as_json, lambda: note(f"MLflow knows {count} releases"))
