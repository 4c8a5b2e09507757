"""Evaluations, question sets, and the gate."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from cluster.artifacts import write_whole
from cluster.catalog import questions, releases, runs
from cluster.cli.console import Detach, Json, emit, home, note, out, table
from cluster.domain.parsing import parse
from cluster.domain.recipes import CalibrateRecipe, EvaluateRecipe, GateRecipe, JudgeRecipe
from cluster.domain.verdicts import Verdict
from cluster.errors import InvalidInput, NotFound
from cluster.flywheel import load_questions
from cluster.settings import load_recipe

if TYPE_CHECKING:
    from cluster.evaluation_report import EvaluationReport

Form = Literal["html", "csv", "json"]

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
    release: Annotated[str | None, typer.Argument(help="agent@version, agent@base, or auto.")] = None,
    question_sets: Annotated[list[str] | None, typer.Argument(help="Question sets.")] = None,
    recipe: Annotated[str | None, typer.Option("--recipe", help="A recipe file (YAML), instead of release and sets.")] = None,
    retrieve: Annotated[bool, typer.Option(help="Answer with retrieval.")] = True,
    offline: Annotated[
        bool, typer.Option("--offline", help="On an engine of the job's own, without the serving application.")
    ] = False,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Ask a release the questions of some sets and keep every result."""
    if recipe is not None:
        if release or question_sets:
            raise InvalidInput("--recipe names release and question sets already; leave the arguments out.")
        loaded: EvaluateRecipe = load_recipe(EvaluateRecipe, recipe)
    elif not release or not question_sets:
        raise InvalidInput(
            "Name a release and at least one question set, or give --recipe FILE; treadle eval sets lists the sets."
        )
    else:
        engine: Literal["served", "offline"] = "offline" if offline else "served"
        loaded = EvaluateRecipe(release=release, question_sets=tuple(question_sets), retrieve=retrieve, engine=engine)
    if loaded.engine == "offline":
        done = home.launch_anywhere("train_jobs.evaluate", loaded, detach, None)
    else:
        done = home.launch("train_jobs.evaluate", loaded, detach)
    emit(done, as_json, lambda: _show_run(done))


def _show_run(done: dict[str, Any]) -> None:
    if "sets" not in done:
        note(f"run {done['run']} is {done['state']}; treadle runs list shows how it goes")
        return
    columns = ("set", "passed", "questions", "unanswered", "latency p50", "evaluation")
    rows = [
        (one["question_set"], f"{one['rate']:.1%}", one["n"], one["unanswered"], f"{one['latency_p50']:.2f} s", one["evaluation"])
        for one in done["sets"]
    ]
    table(str(done["release"]), columns, rows)
    note(f"treadle eval report {done['release']} shows what fails and why")


@app.command()
def compare(before: str, after: str, as_json: Json = False) -> None:
    """Compare two releases on the question sets both were asked in the same way."""
    from cluster.evaluation_report import beside

    with home.catalog.reading() as work:
        found = questions.pairs(work, before, after)
    if not found:
        raise NotFound(f"{before} and {after} were never asked the same questions in the same way; treadle eval run asks them.")
    value = []
    for one, two in found:
        moved = beside(two, one)
        said = {"question_set": one.question_set, "before": one.rate, "after": two.rate, "n": two.n}
        value.append({**said, "newly_right": moved.newly_right, "newly_wrong": moved.newly_wrong, "p": moved.p})
    columns = ("set", "before", "after", "newly right", "newly wrong", "p (sign test)", "questions")
    rows = [
        (
            one["question_set"],
            f"{one['before']:.1%}",
            f"{one['after']:.1%}",
            one["newly_right"],
            one["newly_wrong"],
            f"{one['p']:.2g}",
            one["n"],
        )
        for one in value
    ]
    emit(value, as_json, lambda: table(f"{before} → {after}", columns, rows))


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
def report(
    name: Annotated[str, typer.Argument(help="An evaluation (eval_…), or a release: its newest evaluation of each set.")],
    against: Annotated[str | None, typer.Option(help="A release whose answers to the same questions stand beside.")] = None,
    form: Annotated[Form | None, typer.Option(help="html, csv or json; without it, tables.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="A file; without it, stdout.")] = None,
    as_json: Json = False,
) -> None:
    """Show rates with intervals, slices, latency, what fails and why, what changed, and what data would help."""
    from cluster.evaluation_report import Reporter

    made = Reporter(home.catalog, home.artifacts).named(name, against)
    if form is None and output is None:
        emit(made.model_dump(mode="json"), as_json, lambda: _show_report(made))
        return
    written = _write(made, form or _form_of(str(output)), Path(output) if output else None)
    if output:
        emit({"questions": written, "file": output}, as_json, lambda: note(f"{written:,} questions in {output}"))


def _form_of(output: str) -> Form:
    forms: dict[str, Form] = {".html": "html", ".htm": "html", ".csv": "csv", ".json": "json"}
    found = forms.get(Path(output).suffix.lower())
    if found is None:
        raise InvalidInput(f"'{output}' does not end in .html, .csv or .json; say what is to be written with --form.")
    return found


def _write(made: "EvaluationReport", form: Form, file: Path | None) -> int:
    """Writes the report, whole or not at all; returns how many questions are in it."""
    from cluster.evaluation_page import page
    from cluster.export import export_rows

    if form == "csv":
        return export_rows(made.lines(), "csv", file)
    text = page(made) if form == "html" else json.dumps(made.model_dump(mode="json"), ensure_ascii=False, indent=1) + "\n"
    if file is None:
        sys.stdout.write(text)
    else:
        try:
            write_whole(file, text.encode("utf-8", "replace"))
        except OSError as error:
            raise InvalidInput(f"{file} cannot be written ({error.strerror or error}); give another --output.") from None
    return sum(one.rate.n for one in made.sets)


def _show_report(made: "EvaluationReport") -> None:
    for one in made.sets:
        rows: list[tuple[object, ...]] = [("all", one.rate, one.rate.n, one.against.rate if one.against else None)]
        rows += [(escape(part.name), part.rate, part.rate.n, part.against) for part in one.slices]
        how = ", ".join(f"{key} {value}" for key, value in sorted(one.options.items()))
        title = f"{one.release} on {one.question_set} ({how}), {one.evaluation}"
        table(title, ("slice", "passed (95 %)", "questions", made.against or ""), rows)
        for suggestion in one.suggestions:
            note(escape(f"• {suggestion.text}"))
        if one.judge:
            note(escape(one.judge))
    for line in made.notes:
        note(escape(line))


@app.command()
def calibrate(
    agent: Annotated[str | None, typer.Argument(help="An agent; default: turns of every agent.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="The judge's endpoint, or 'served'; default: that of configs/models.yaml.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The judge's name at the endpoint.")] = None,
    limit: Annotated[int, typer.Option(help="Turns at most, the newest judged first.")] = 200,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Measure how far the judge's grades agree with people's thumbs (Spearman's rank correlation)."""
    recipe = CalibrateRecipe(agent=agent, judge=JudgeRecipe(endpoint=endpoint, model=model), limit=limit)
    done = home.launch_anywhere("train_jobs.calibrate", recipe, detach, None)
    said = f"{done['judge']}: {done['meaning']}" if "judge" in done else f"run {done['run']} is {done['state']}"
    emit(done, as_json, lambda: note(escape(said)))
