"""Evaluations, question sets, and the gate."""

from typing import Annotated

import typer

from cluster.catalog import questions, releases, runs
from cluster.cli.console import Detach, Json, emit, home, note, out, table
from cluster.domain.parsing import parse
from cluster.domain.recipes import EvaluateRecipe, GateRecipe
from cluster.domain.verdicts import Verdict
from cluster.errors import InvalidInput, NotFound
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
    challenger: Annotated[str, typer.Argument(help="agent@version, or agent@challenger.")],
    question_sets: Annotated[list[str] | None, typer.Argument(help="Default: the agent's skill sets.")] = None,
    promote: Annotated[bool, typer.Option(help="Promote when it passes.")] = True,
    waive: Annotated[str | None, typer.Option(help="Promote although the gate says keep; why is recorded.")] = None,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Judge a challenger against the champion, question by question. The agent's regression sets, and the forgetting and guard sets for
    it or for all agents, are always asked."""
    values = {"challenger": challenger, "question_sets": question_sets or (), "promote": promote, "waive": waive}
    recipe: GateRecipe = parse(GateRecipe, values, "treadle eval gate", InvalidInput)
    done = home.launch("train_jobs.gate", recipe, detach)
    judged = {key: value for key, value in done.items() if key != "run"}
    emit(done, as_json, None if detach else lambda: show_verdict(Verdict.model_validate(judged)))


@app.command()
def verdict(release: Annotated[str, typer.Argument(help="agent@version.")], as_json: Json = False) -> None:
    """Show what the gate said last of a release."""
    with home.catalog.reading() as work:
        ref = releases.get(work, release).ref
        found = runs.verdict(work, ref)
    if found is None:
        raise NotFound(f"No gate has judged {ref} yet; treadle eval gate {ref} does.")
    emit({**found.model_dump(mode="json"), "outcome": found.outcome}, as_json, lambda: show_verdict(found))


def show_verdict(found: Verdict) -> None:
    """A verdict as a table of its sets and slices, and its sentences."""
    rows: list[tuple[object, ...]] = []
    for one in found.comparisons:
        interval = f"{one.interval[0]:+.1%} to {one.interval[1]:+.1%}" if one.interval else ""
        rows.append(
            (
                one.question_set,
                one.purpose,
                one.n,
                f"{one.champion_rate:.1%}",
                f"{one.challenger_rate:.1%}",
                interval,
                f"{one.p:.2g}",
            )
        )
        for part in (slice_ for slice_ in one.slices if slice_.worse):
            before, after = part.champion_passed / part.n, part.challenger_passed / part.n
            rows.append((f"  {part.name}", "slice", part.n, f"{before:.1%}", f"{after:.1%}", "worse", f"{part.p_worse:.2g}"))
    columns = ("set", "purpose", "n", "champion", "challenger", "difference", "p")
    table(f"{found.challenger} against {found.champion}: {found.outcome}", columns, rows)
    for line in (*found.reasons, *found.notes):
        out.print(f"  {line}", highlight=False, markup=False)


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
