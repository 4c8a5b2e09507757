"""Evaluations, question sets, and the gate."""

from typing import Annotated

import typer

from cluster.catalog import questions
from cluster.cli.console import Detach, Json, emit, home, note, table
from cluster.domain.recipes import EvaluateRecipe, GateRecipe
from cluster.flywheel import load_questions

app = typer.Typer(no_args_is_help=True)


@app.command()
def sets(as_json: Json = False) -> None:
    """List question sets."""
    with home.catalog.reading() as work:
        found = questions.sets(work)
    rows = [(one.name, one.agent, one.purpose, len(one.questions)) for one in found]
    value = [{"name": one.name, "agent": one.agent, "purpose": one.purpose, "n": len(one.questions)} for one in found]
    emit(value, as_json, lambda: table("Question sets", ("set", "agent", "purpose", "questions"), rows))


@app.command()
def add(files: Annotated[list[str], typer.Argument(help="YAML files.")], as_json: Json = False) -> None:
    """Put question sets into the catalog."""
    loaded = [load_questions(file) for file in files]
    with home.catalog.transaction() as work:
        for one in loaded:
            questions.save_set(work, one)
    emit([one.name for one in loaded], as_json, lambda: note(f"kept {', '.join(one.name for one in loaded)}"))


@app.command()
def run(
    release: Annotated[str, typer.Argument(help="agent@version, agent@base, or auto.")],
    question_sets: Annotated[list[str], typer.Argument(help="Question sets.")],
    retrieve: Annotated[bool, typer.Option(help="Answer with retrieval.")] = True,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Ask a release the questions of some sets and keep every result."""
    recipe = EvaluateRecipe(release=release, question_sets=tuple(question_sets), retrieve=retrieve)
    emit(home.launch("train_jobs.evaluate", recipe, detach), as_json)


@app.command()
def compare(before: str, after: str, as_json: Json = False) -> None:
    """Compare two releases on the question sets both were asked."""
    with home.catalog.reading() as work:
        found = questions.pairs(work, before, after)
    value = [{"question_set": one.question_set, "before": one.rate, "after": two.rate, "n": two.n} for one, two in found]
    rows = [(one["question_set"], f"{one['before']:.1%}", f"{one['after']:.1%}", one["n"]) for one in value]
    emit(value, as_json, lambda: table(f"{before} → {after}", ("set", "before", "after", "n"), rows))


@app.command()
def gate(
    challenger: str,
    question_sets: list[str],
    promote: Annotated[bool, typer.Option(help="Promote when it passes.")] = True,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Judge a challenger against the champion, question by question."""
    recipe = GateRecipe(challenger=challenger, question_sets=tuple(question_sets), promote=promote)
    emit(home.launch("train_jobs.gate", recipe, detach), as_json)


@app.command()
def report(release: str, as_json: Json = False) -> None:
    """Show all evaluations of a release, with slices."""
    with home.catalog.reading() as work:
        found = questions.of_release(work, release)
    value = [
        {"question_set": one.question_set, "rate": one.rate, "n": one.n, "options": one.options, "slices": one.slice_rates()}
        for one in found
    ]
    rows = [(one["question_set"], f"{one['rate']:.1%}", one["n"], one["options"]) for one in value]
    emit(value, as_json, lambda: table(f"Evaluations of {release}", ("set", "passed", "n", "options"), rows))
