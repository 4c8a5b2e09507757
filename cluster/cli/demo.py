"""`treadle demo`: plays the demo and shows its report."""

import os
import shutil
import sys
from typing import Any

from cluster import ray_lifecycle
from cluster.access import own_key
from cluster.cli.console import Board, Home, note, out, table
from cluster.cli.releases import show_diff
from cluster.demo import REPORT, Demo, DemoPlan
from cluster.domain.releases import ReleaseDiff
from cluster.flywheel import Plan, Wheel
from cluster.settings import ROOT, load_recipe


def play(home: Home, plan: str, once: bool, started: float | None = None) -> dict[str, Any]:
    """Run the demo, show the table, and leave the service up unless ``once``."""
    demo: DemoPlan = load_recipe(DemoPlan, ROOT / plan)
    turn: Plan = load_recipe(Plan, ROOT / demo.plan)
    own_key(home.settings, home.catalog)
    try:
        with Board() as board:
            wheel = Wheel(home.settings, home.catalog, home.registry, home.submitter, board.watch)
            report = Demo(home.settings, home.catalog, home.submitter, wheel, note, started).play(demo, turn)
    finally:
        if once and ray_lifecycle.state(home.settings) is not None:
            ray_lifecycle.stop(home.settings, note)
    show(report)
    if not once:
        _next_steps(home)
    note(f"The same figures: {home.settings.home / REPORT}")
    return report


def show(report: dict[str, Any]) -> None:
    """The report as tables."""
    rows: list[tuple[str, str, str, object]] = []
    for name, found in report["agents"].items():
        one = found["exact_match"]
        rows.append(
            (f"{name}: exact match on unseen requests", f"{one['base']:.1%} base", f"{one['adapter']:.1%} adapter", one["n"])
        )
    one = report["retrieval"]
    rows.append(
        ("knowledge questions answered right", f"{one['without']:.1%} without", f"{one['with']:.1%} with retrieval", one["n"])
    )
    one = report["router"]
    rows.append(
        ("router", f"{one['accuracy']:.1%} right agent", f"{one['out_of_scope_recall']:.1%} out of scope caught", one["n"])
    )
    one = report["validation"]
    low, high = one["gain_ci95"]
    rows.append(("answers that keep the rules", f"{one['before']:.1%} before", f"{one['after']:.1%} after DPO", one["n"]))
    rows.append(("   gain, 95 % interval", f"{low:+.1%}", f"{high:+.1%}", one["n"]))
    swap = report["swap"]
    rows.append(("requests during the swap", str(swap["requests"]), f"{swap['failed']} failed", ""))
    rows.append(("release", report["releases"]["before"], report["releases"]["after"], ""))
    table("What the wheel did", ("", "before", "after", "n"), rows)
    out.print(f"gate: {report['gate']['verdict']}", highlight=False)
    for reason in report["gate"]["reasons"]:
        out.print(f"  {reason}", highlight=False, markup=False)
    show_diff(ReleaseDiff.model_validate(report["diff"]), answers=1)
    table("Seconds", ("stage", "s"), list(report["seconds"].items()))


def _next_steps(home: Home) -> None:
    found = ray_lifecycle.connection(home.settings)
    key = home.settings.home / "cli_key"
    question = '{"model": "auto", "messages": [{"role": "user", "content": "What is listening on port 8080?"}]}'
    treadle = "treadle" if shutil.which("treadle") else os.path.relpath(sys.argv[0])
    note("The service is up.")
    note(f"  ask it     {treadle} chat        (or: curl {found.serve}/v1/chat/completions \\")
    note(f"""             -H "Authorization: Bearer $(cat {key})" -H 'Content-Type: application/json' -d '{question}')""")
    note(f"  MLflow     {found.mlflow}")
    note(f"  Ray        {found.dashboard}")
    note(f"  stop it    {treadle} down")
