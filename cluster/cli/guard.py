"""Guard: try a text, and see what was stopped."""

import sys
from typing import Annotated, Literal

import typer

from cluster.catalog import guard_events, releases
from cluster.cli.console import Json, emit, home, note, table
from cluster.domain.agents import GUARD
from cluster.guarding import classifier
from cluster.guarding.checks import Guard
from cluster.guarding.policies import Verdict
from cluster.settings import ROOT

app = typer.Typer(no_args_is_help=True)


@app.command()
def check(
    text: Annotated[str, typer.Argument(help="The text; '-' reads it from standard input.")],
    place: Annotated[Literal["input", "passages"], typer.Option(help="As a question, or as a retrieved passage.")] = "input",
    policy: Annotated[str | None, typer.Option(help="A policy of the file. Default: the served one.")] = None,
    as_json: Json = False,
) -> None:
    """Say what the guard finds in a text and would do about it."""
    chosen = home.settings.router
    guard = Guard.read(ROOT / chosen.guard, policy or chosen.guard_policy).taught(_released())
    verdict = guard.check(sys.stdin.read() if text == "-" else text, place)
    emit(verdict.model_dump(mode="json"), as_json, lambda: _show(guard, verdict))


@app.command()
def events(
    limit: int = 50,
    user: Annotated[str | None, typer.Option(help="Of this user alone.")] = None,
    action: Annotated[Literal["log", "flag", "block", "anomaly"] | None, typer.Option(help="Of this kind alone.")] = None,
    as_json: Json = False,
) -> None:
    """List what the guard did, the newest first."""
    with home.catalog.reading() as work:
        found = guard_events.recent(work, limit, user, action)
    rows = [
        (f"{one.created_at:%Y-%m-%d %H:%M:%S}", one.user, one.place, one.action, one.policy, ", ".join(one.patterns))
        for one in found
    ]
    names = ("when", "user", "place", "action", "policy", "patterns")
    emit([one.model_dump(mode="json") for one in found], as_json, lambda: table("Guard events", names, rows))


@app.command()
def policies(as_json: Json = False) -> None:
    """Show the table of policies: what each blocks, flags and logs."""
    guard = Guard.read(ROOT / home.settings.router.guard, home.settings.router.guard_policy)
    rows = []
    for name, policy in guard.table.policies.items():
        for place in ("input", "passages", "output"):
            one = policy.of(place)
            rate = "" if one.classifier.block is None else f"{one.classifier.block:.1%}"
            rows.append((name, place, one.block or "", one.flag or "", one.log or "", rate, one.fail))
    value = {name: policy.model_dump(mode="json") for name, policy in guard.table.policies.items()}
    heads = ("policy", "place", "block from", "flag from", "log from", "classifier", "fails")
    emit(value, as_json, lambda: table(f"Guard policies (served: {guard.policy})", heads, rows))


def _released() -> classifier.Classifier | None:
    """The classifier that is served, if one was promoted."""
    with home.catalog.reading() as work:
        release = releases.champion(work, GUARD)
    if release is None:
        return None
    return classifier.load(home.artifacts.fetch(release.adapter_uri, release.adapter_digest), release.ref)


def _show(guard: Guard, verdict: Verdict) -> None:
    known = "with the released classifier" if guard.classifier is not None else "without a classifier"
    note(f"{verdict.action} under '{guard.policy}', {known}")
    table("Found", ("kind", "pattern", "severity"), [(hit.kind, hit.pattern, hit.severity) for hit in verdict.hits])
