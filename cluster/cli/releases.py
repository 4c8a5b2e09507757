"""Releases: list, compare, promote, roll back, retire."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.catalog import forgotten, releases
from cluster.cli.console import Json, emit, home, note, out, table
from cluster.domain.releases import ReleaseDiff
from cluster.lineage_graph import lineage_graph
from cluster.registry import Reconciled
from cluster.unregistered import reconciled

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_releases(
    agent: Annotated[str | None, typer.Argument()] = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that are retired.")] = False,
    as_json: Json = False,
) -> None:
    """List releases, newest first, with their aliases."""
    with home.catalog.reading() as work:
        found = releases.of_agent(work, agent) if agent else releases.everything(work)
        names: dict[tuple[str, str], list[str]] = {}
        for (owner, alias), version in releases.all_aliases(work).items():
            names.setdefault((owner, version), []).append(alias)
        marked = forgotten.marks(work, "release")
        gone = releases.retired(work)
    found = [one for one in found if every or one.ref not in gone]
    rows = [
        (
            one.ref,
            ", ".join(names.get((one.agent, one.version), [])) or ("retired" if one.ref in gone else ""),
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
            "retired": gone.get(one.ref),
        }
        for one in found
    ]
    columns = ("release", "aliases", "because", "parent", "digest", "to be built again")
    emit(value, as_json, lambda: table("Releases", columns, rows))


@app.command()
def show(
    ref: str,
    lineage: Annotated[bool, typer.Option("--lineage", help="What it came from, and what came of it, as a tree.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Draw the lineage into this file (.svg or .png).")] = None,
    as_json: Json = False,
) -> None:
    """Show everything a release is made of."""
    with home.catalog.reading() as work:
        release = releases.get(work, ref)
        graph = lineage_graph(work, release) if lineage or picture else None
        gone = releases.retired(work).get(release.ref)
    if picture is not None and graph is not None:
        from cluster.lineage_picture import draw

        draw(graph, picture)
        note(f"the lineage of {release.ref} is drawn in {picture}")
    if graph is not None:
        emit(graph.model_dump(mode="json"), as_json, lambda: out.print("\n".join(graph.tree()), highlight=False, markup=False))
        return
    emit({**release.model_dump(mode="json"), "digest": release.digest, "retired": gone}, as_json)


@app.command()
def diff(
    before: str,
    after: str,
    examples: Annotated[int, typer.Option(min=0, help="Rows shown of those added, and of those removed.")] = 3,
    answers: Annotated[int, typer.Option(min=0, help="Answers shown of those that changed, in each question set.")] = 3,
    as_json: Json = False,
) -> None:
    """Show what changed between two releases: rows, recipe, metrics, answers."""
    found = home.registry.compare(before, after, examples)
    emit(found.model_dump(mode="json"), as_json, lambda: show_diff(found, answers))


def show_diff(found: ReleaseDiff, answers: int = 3) -> None:
    """The difference as a table, with some of the rows and of the answers that changed; those that turned wrong first."""
    rows: list[tuple[object, ...]] = []
    for part in ("made_of", "card", "recipe", "metrics", "indexes"):
        name = "" if part == "made_of" else f"{part}."
        rows += [(f"{name}{key}", _short(before), _short(after)) for key, (before, after) in getattr(found, part).items()]
    rows.append(("dataset rows", f"-{found.rows_removed}", f"+{found.rows_added}"))
    table(f"{found.before} → {found.after}", ("what", "before", "after"), rows)
    for mark, texts in (("-", found.examples_removed), ("+", found.examples_added)):
        for text in texts:
            out.print(f"  {mark} {_row(text)}", highlight=False, markup=False)
    for name, changes in found.answers.items():
        better = sum(change.passed_after and not change.passed_before for change in changes)
        worse = sum(change.passed_before and not change.passed_after for change in changes)
        out.print(f"{name}: {len(changes)} answers changed, {better} better, {worse} worse", highlight=False)
        told = sorted(changes, key=lambda one: (not (one.passed_before and not one.passed_after), one.passed_before))
        for change in told[:answers]:
            lines = (
                f"  ? {change.question or change.question_id}",
                f"  - {change.before} ({_judged(change.passed_before)})",
                f"  + {change.after} ({_judged(change.passed_after)})",
            )
            out.print("\n".join(lines), highlight=False, markup=False)


def _judged(passed: bool) -> str:
    return "right" if passed else "wrong"


def _row(text: str) -> str:
    """A dataset row in one line: what was asked and what is to be said."""
    row: dict[str, Any] = json.loads(text)
    said = row.get("answer") or row.get("chosen") or row.get("agent") or "no agent"
    return " ".join(f"{row.get('question') or row.get('text')} → {said}".split())[:160]


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value if len(str(value)) <= 80 else f"{str(value)[:79]}…"


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
    """Give an agent back the champion it had before; done again, the one before that."""
    release = home.registry.rollback(agent, reason)
    emit({"champion": release.ref}, as_json, lambda: note(f"{release.ref} is the champion again"))


@app.command()
def retire(
    ref: Annotated[str, typer.Argument(help="agent@version")],
    reason: Annotated[str, typer.Option(help="Why.")],
    as_json: Json = False,
) -> None:
    """Take a release out of use for good: not promoted, not gone back to, not listed. Its files stay."""
    release = home.registry.retire(ref, reason)
    emit({"retired": release.ref}, as_json, lambda: note(f"{release.ref} is retired"))


@app.command()
def reconcile(as_json: Json = False) -> None:
    """Register what was trained while the catalog or the artifact store was away, and tell MLflow what it missed."""
    done = reconciled(home.registry)
    emit(done.model_dump(mode="json"), as_json, lambda: _say_reconciled(done))


def _say_reconciled(done: Reconciled) -> None:
    for ref in done.registered:
        note(f"{ref} is registered")
    note(f"MLflow knows {done.releases} releases, and was told what it had missed of {done.runs} runs")
