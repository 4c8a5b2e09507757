"""An evaluation report as one HTML page: rates with their intervals, slices, latency, what fails and why, what changed, what would help."""

import math
from collections.abc import Sequence
from html import escape

from cluster.domain.intervals import Rate
from cluster.evaluation_report import Against, EvaluationReport, Line, SetReport
from cluster.html_page import BAR, COLOURS, LABEL, WIDTH, bars, document, facts, figure, label_at, section

MOST_SHOWN = 200
_PLOT = WIDTH - LABEL - 150
_LONGEST = 1000


def page(report: EvaluationReport) -> str:
    """The whole page."""
    title = f"Evaluation of {report.title}" + (f" against {report.against}" if report.against else "")
    notes = [f"<p>{escape(note)}</p>" for note in report.notes]
    made = f"<p>Made {report.made_at:%Y-%m-%d %H:%M} UTC. Intervals are Wilson's, 95 %.</p>"
    return document(title, [f"<h1>{escape(title)}</h1>", made, *notes, *(_set(one) for one in report.sets)])


def _set(one: SetReport) -> str:
    parts = [_facts(one), section("Rates, as a whole and by slice", _rates(one), 3)]
    if one.suggestions:
        said = "".join(f"<li>{escape(suggestion.text)}</li>" for suggestion in one.suggestions)
        parts.append(section("What fails, and what would help", f"<ul>{said}</ul>", 3))
    parts.append(section("How long answers took (seconds)", bars(_latencies([line.latency_s for line in one.lines])), 3))
    if one.moved:
        parts.append(section(f"What changed ({len(one.moved):,})", _moved(one.moved, one.against), 3))
    if one.failures:
        parts.append(section(f"Questions that fail ({len(one.failures):,})", _failures(one.failures), 3))
    how = ", ".join(f"{name} {value}" for name, value in sorted(one.options.items()))
    return section(f"{one.question_set}: {one.release} ({how})", "\n".join(parts))


def _facts(one: SetReport) -> str:
    rows = [
        ("passed", f"{one.rate.hits:,} of {one.rate.n:,}, {escape(str(one.rate))}"),
        ("mean score", f"{one.score:.3f}"),
        ("latency p50, p95, p99", ", ".join(f"{one.latency[name]:.2f} s" for name in ("p50", "p95", "p99"))),
        ("asked", f"{one.created_at:%Y-%m-%d %H:%M} UTC"),
        ("evaluation", f"<code>{escape(one.evaluation)}</code>"),
    ]
    if one.unanswered:
        rows.insert(1, ("without an answer", f"{one.unanswered:,} (they count as not passed)"))
    if one.against:
        rows.insert(1, (one.against.release, escape(_compared(one.against))))
    said = facts(rows, "text")
    if one.judge:
        said += f"<p>{escape(one.judge)}</p>"
    if one.changed:
        said += "<p>The set has changed since; questions that are gone stand without their text.</p>"
    return said


def _compared(other: Against) -> str:
    moved = f"{other.newly_right} newly right, {other.newly_wrong} newly wrong, sign test p = {other.p:.2g}"
    return f"{other.rate.hits:,} of {other.rate.n:,}, {other.rate}: {moved}"


def _rates(one: SetReport) -> str:
    """A dot at each rate with its interval; the other release's dot hollow, below it."""
    other = one.against.rate if one.against else None
    rows: list[tuple[str, Rate, Rate | None]] = [("all", one.rate, other)]
    rows += [(part.name, part.rate, part.against) for part in one.slices]
    drawn = [
        f'<line x1="{_x(share):.1f}" y1="0" x2="{_x(share):.1f}" y2="{len(rows) * BAR}" stroke="#e3e8ec"/>'
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    for number, (label, rate, before) in enumerate(rows):
        top = number * BAR
        drawn.append(label_at(top, label))
        if before is not None:
            drawn.append(_dot(before, top + 16, "faint", hollow=True))
        drawn.append(_dot(rate, top + (8 if before is not None else 11), "plain"))
        drawn.append(f'<text x="{_x(1.0) + 10:.1f}" y="{top + 15}">{rate.rate:.1%} of {rate.n:,}</text>')
    said = "; ".join(f"{label}: {rate}" + (f", before {before}" if before else "") for label, rate, before in rows)
    return figure(said, drawn, len(rows))


def _x(share: float) -> float:
    return LABEL + _PLOT * share


def _dot(rate: Rate, y: float, colour: str, hollow: bool = False) -> str:
    ink = COLOURS[colour]
    return (
        f'<line x1="{_x(rate.low):.1f}" y1="{y}" x2="{_x(rate.high):.1f}" y2="{y}" stroke="{ink}" stroke-width="2"/>'
        f'<circle cx="{_x(rate.rate):.1f}" cy="{y}" r="4" fill="{"#fff" if hollow else ink}" stroke="{ink}" stroke-width="1.5"/>'
    )


def _latencies(seconds: Sequence[float]) -> list[tuple[str, float, str]]:
    """Counts by doubling: latencies differ by orders of magnitude."""
    counts: dict[int, int] = {}
    for one in seconds:
        step = max(-10, math.floor(math.log2(one)) if one > 0 else -10)
        counts[step] = counts.get(step, 0) + 1
    return [
        (f"{2.0**step:.3g} to {2.0 ** (step + 1):.3g}", counts.get(step, 0), "plain")
        for step in range(min(counts), max(counts) + 1)
    ]


def _moved(lines: Sequence[Line], other: Against | None) -> str:
    before = other.release if other else "before"
    rows = [
        (_cell("newly right" if line.passed else "newly wrong"), _asked(line), _code(line.before or ""), _code(line.answer))
        for line in lines[:MOST_SHOWN]
    ]
    return _table(("", "question", before, "now"), rows, len(lines))


def _failures(lines: Sequence[Line]) -> str:
    rows = [
        (
            _asked(line),
            _code(line.expected),
            _code(line.answer),
            _cell("; ".join(filter(None, (line.why, line.detail)))),
        )
        for line in lines[:MOST_SHOWN]
    ]
    return _table(("question", "expected", "answer", "why"), rows, len(lines))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], count: int) -> str:
    said = "<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"
    said += "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    more = f"<p>and {count - len(rows):,} more; --form csv has all of them</p>" if count > len(rows) else ""
    return f"<table>{said}</table>{more}"


def _asked(line: Line) -> str:
    slices = f"<br>{escape(', '.join(line.slices))}" if line.slices else ""
    return f"<td>{escape(_short(line.question))}<br><code>{escape(line.question_id)}</code>{slices}</td>"


def _code(text: str) -> str:
    return f"<td><pre>{escape(_short(text))}</pre></td>"


def _cell(text: str) -> str:
    return f"<td>{escape(_short(text))}</td>"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
