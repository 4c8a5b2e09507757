"""Experiments: a challenger on trial beside its agent's champion, in traffic."""

from typing import Annotated, Any

import typer

from cluster import experiments as trying
from cluster.accounts import COMMAND_LINE
from cluster.catalog import experiments
from cluster.cli.console import Json, emit, home, note, out, table
from cluster.domain.conversations import Turn
from cluster.domain.experiment_results import ExperimentResults, Seconds, Share
from cluster.domain.experiments import Experiment, Kind

app = typer.Typer(no_args_is_help=True)
Which = Annotated[str, typer.Argument(help="An experiment's id, or an agent: its newest one.")]


@app.command()
def start(
    challenger: Annotated[str, typer.Argument(help="agent@version")],
    kind: Annotated[
        Kind, typer.Option(help="split, canary (may promote at the end), shadow (its answers are seen by nobody).")
    ] = "split",
    share: Annotated[
        float | None,
        typer.Option(help="Of the conversations, 0 to 1. Default: 0.5 of a split, 0.1 of a canary, all of a shadow."),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="validation, errors or thumbs: what decides; may be given again. Default: all.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="The risk of calling a challenger worse that is not, over all metrics.")] = 0.05,
    min_turns: Annotated[int, typer.Option(help="The challenger's turns before it may be promoted.")] = 100,
    auto_rollback: Annotated[bool, typer.Option(help="End it by itself when the challenger is proved worse.")] = True,
    promote: Annotated[
        bool, typer.Option("--promote", help="Of a canary: promote when it is proved better, or not worse.")
    ] = False,
    tolerance: Annotated[
        float, typer.Option(help="By how much more of its turns may be bad and still be called not worse.")
    ] = 0.05,
    shadow_at_once: Annotated[int, typer.Option(help="Shadows that a replica asks at a time; others are dropped.")] = 2,
    shadow_busy: Annotated[int, typer.Option(help="No shadows while the engine writes so many answers.")] = 8,
    as_json: Json = False,
) -> None:
    """Put a release on trial beside its agent's champion; the endpoint follows within a second."""
    settings: dict[str, Any] = {"alpha": alpha, "min_turns": min_turns, "auto_rollback": auto_rollback, "promote": promote}
    settings |= {"tolerance": tolerance, "shadow_at_once": shadow_at_once, "shadow_busy": shadow_busy}
    settings |= {"metrics": metric} if metric else {}
    with home.catalog.transaction() as work:
        made = trying.start(work, COMMAND_LINE, challenger, kind, share, settings)
    said = f"{made.id}: {made.challenger} is tried beside {made.champion} ({made.kind} of {made.share:.0%})"
    emit(made.model_dump(mode="json"), as_json, lambda: note(f"{said}; look at it: treadle experiments show {made.id}"))


@app.command("list")
def list_experiments(agent: Annotated[str | None, typer.Argument()] = None, as_json: Json = False) -> None:
    """List experiments, the newest first."""
    with home.catalog.reading() as work:
        found = experiments.everything(work, agent)
    rows = [
        (
            one.id,
            one.challenger,
            one.champion,
            f"{one.kind} {one.share:.0%}",
            one.state,
            f"{one.started_at:%Y-%m-%d %H:%M}",
            one.reason,
        )
        for one in found
    ]
    columns = ("experiment", "challenger", "champion", "kind", "state", "started (UTC)", "because")
    emit([one.model_dump(mode="json") for one in found], as_json, lambda: table("Experiments", columns, rows))


@app.command()
def show(
    which: Which,
    answers: Annotated[
        int, typer.Option(min=0, max=200, help="Of a shadow: so many of its newest answers, beside the champion's.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Show what an experiment has counted, with bounds that hold however often one looks, and what follows from it."""
    with home.catalog.reading() as work:
        found = trying.found(work, experiments.get(work, which))
        pairs = experiments.shadowed(work, found.experiment.id, answers) if answers else []
    value = found.model_dump(mode="json")
    if answers:
        keys = {"release", "answer", "validation"}
        value["answers"] = [
            {"question": one.question, "champion": one.model_dump(include=keys), "challenger": other.model_dump(include=keys)}
            for one, other in pairs
        ]
    emit(value, as_json, lambda: _say(found, pairs))


def _say(found: ExperimentResults, pairs: list[tuple[Turn, Turn]]) -> None:
    one = found.experiment
    sides = (found.champion, found.challenger)
    rows: list[tuple[object, ...]] = [("release", *(side.release for side in sides))]
    for name in ("turns", "conversations", "thumbs_up", "thumbs_down", "failed_validations", "errors"):
        rows.append((name.replace("_", " "), *(getattr(side, name) for side in sides)))
    rows.append(("seconds, median", *(_seconds(side.seconds) for side in sides)))
    for metric in found.metrics:
        said = f"{metric.finding.replace('_', ' ')}, p {metric.p_better if metric.finding == 'better' else metric.p_worse:.2g}"
        rows.append((f"bad {metric.metric}", _share(metric.champion), _share(metric.challenger), said))
    table(f"{one.id}: {one.kind} of {one.share:.0%} of {one.agent}, {one.state}", ("", "champion", "challenger", ""), rows)
    out.print(f"{found.because}." if one.state == "running" else f"{one.state}: {one.reason}.", highlight=False, markup=False)
    if found.unpaired:
        out.print(f"{found.unpaired} questions were not asked of the challenger.", highlight=False)
    for champion, challenger in pairs:
        lines = (
            f"  ? {champion.question}",
            f"  - {champion.answer}{_broken(champion)}",
            f"  + {challenger.answer}{_broken(challenger)}",
        )
        out.print("\n".join(lines), highlight=False, markup=False)


def _broken(turn: Turn) -> str:
    return "" if turn.validation.passed else f" (breaks {', '.join(turn.validation.failures)})"


def _seconds(found: Seconds | None) -> str:
    return "" if found is None else f"{found.p50:.3g} ({found.low:.3g} to {found.high:.3g})"


def _share(found: Share) -> str:
    return f"{found.hits} of {found.n}" + (
        "" if found.rate is None else f", {found.rate:.1%} ({found.low:.0%} to {found.high:.0%})"
    )


@app.command()
def stop(which: Which, reason: Annotated[str, typer.Option(help="Why.")] = "stopped by hand", as_json: Json = False) -> None:
    """End an experiment: the champion answers all again within a second."""
    with home.catalog.transaction() as work:
        ended = trying.stop(work, COMMAND_LINE, which, reason)
    emit(ended.model_dump(mode="json"), as_json, lambda: _stopped(ended))


def _stopped(ended: Experiment) -> None:
    note(f"{ended.id} is stopped; {ended.champion} answers all")
