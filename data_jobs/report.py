"""An ingest's report as one HTML page: what came in and what became of it, why, how large, how fast; with examples.

The page stands alone: no script, nothing loaded from anywhere.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from cluster.domain.documents import Dropped, IngestReport, Quarantined

_EXAMPLES = 5
_WIDTH, _BAR, _LABEL = 640, 22, 190
_COLOURS = {"kept": "#2f7d4f", "dropped": "#b98a1d", "quarantined": "#a8433a", "plain": "#3c6e9f"}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1d2730; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { text-align: left; padding: .2rem .9rem .2rem 0; vertical-align: top }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
code { background: #f1f4f6; padding: 0 .2rem; overflow-wrap: anywhere } figure { margin: 0 } text { font: 13px system-ui, sans-serif }
"""


def page(report: IngestReport, lengths: Sequence[int], kinds: Mapping[str, int], stages: Mapping[str, float]) -> str:
    """The whole page. ``lengths``: characters of each kept document; ``kinds``: kept documents by media type; ``stages``: seconds."""
    summary = report.summary()
    documents = summary["documents"]
    outcomes = [("kept", report.kept, "kept"), ("dropped", len(report.dropped), "dropped")]
    outcomes.append(("quarantined", len(report.quarantined), "quarantined"))
    reasons = [(reason, count, "dropped") for reason, count in _by_count(documents["dropped"])]
    reasons += [(reason, count, "quarantined") for reason, count in _by_count(documents["quarantined"])]
    title = f"{report.corpus} version {report.version}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _facts(report, summary),
        _section("What became of the documents", _bars(outcomes)),
        _section("Why documents are not in the corpus", _bars(reasons) if reasons else "<p>All of them are.</p>"),
        _section("How long the kept documents are (characters)", _bars(_histogram(lengths))),
        _section("What they are", _bars([(kind, count, "plain") for kind, count in _by_count(kinds)])),
        _section("Where the time went (seconds)", _bars([(name, round(took, 2), "plain") for name, took in stages.items()])),
        _examples("Dropped", report.dropped),
        _examples("Quarantined", report.quarantined),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _facts(report: IngestReport, summary: Mapping[str, Any]) -> str:
    rows = [
        ("documents in", f"{report.documents_in:,}"),
        ("kept", f"{report.kept:,}"),
        ("passages", f"{report.passages:,}"),
        ("read", f"{report.bytes_in / 1e6:,.1f} MB"),
        ("took", f"{report.seconds:,.1f} s, {summary['mb_per_s']:g} MB/s"),
        ("digest", f"<code>{escape(report.digest[:16])}</code>"),
    ]
    return "<table>" + "".join(f'<tr><th>{name}</th><td class="number">{value}</td></tr>' for name, value in rows) + "</table>"


def _section(title: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{body}"


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _bars(bars: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars, each with its label and value."""
    most = max((value for _, value, _ in bars), default=0) or 1
    drawn = []
    for number, (label, value, colour) in enumerate(bars):
        top, length = number * _BAR, (_WIDTH - _LABEL - 90) * value / most
        drawn.append(
            f'<text x="{_LABEL - 8}" y="{top + 15}" text-anchor="end">{escape(_short(label))}</text>'
            f'<rect x="{_LABEL}" y="{top + 3}" width="{max(1.0, length):.1f}" height="{_BAR - 6}" fill="{_COLOURS[colour]}"/>'
            f'<text x="{_LABEL + length + 6:.1f}" y="{top + 15}">{value:,}</text>'
        )
    said = escape("; ".join(f"{label}: {value:,}" for label, value, _ in bars))
    size = f'viewBox="0 0 {_WIDTH} {len(bars) * _BAR}" width="{_WIDTH}" height="{len(bars) * _BAR}"'
    return f'<figure><svg role="img" aria-label="{said}" {size}>{"".join(drawn)}</svg></figure>'


def _short(label: str) -> str:
    return label if len(label) <= 28 else f"{label[:13]}…{label[-13:]}"


def _histogram(lengths: Sequence[int]) -> list[tuple[str, float, str]]:
    """Counts by power of four: documents differ in length by orders of magnitude."""
    counts: dict[int, int] = {}
    for length in lengths:
        step = max(0, (length.bit_length() - 1) // 2)
        counts[step] = counts.get(step, 0) + 1
    steps = range(min(counts, default=0), max(counts, default=-1) + 1)
    return [(f"{4**step:,} to {4 ** (step + 1) - 1:,}", counts.get(step, 0), "plain") for step in steps]


def _examples(title: str, refused: Sequence[Dropped | Quarantined]) -> str:
    """The first few of each reason."""
    by_reason: dict[str, list[Dropped | Quarantined]] = {}
    for one in refused:
        by_reason.setdefault(one.reason, []).append(one)
    if not by_reason:
        return ""
    rows = []
    for reason, ones in sorted(by_reason.items()):
        for one in ones[:_EXAMPLES]:
            why = one.detail if isinstance(one, Quarantined) else f"twin of {one.of}" if one.of else ""
            rows.append(f"<tr><td>{escape(reason)}</td><td><code>{escape(one.source)}</code></td><td>{escape(why)}</td></tr>")
        if len(ones) > _EXAMPLES:
            rows.append(f"<tr><td></td><td>and {len(ones) - _EXAMPLES:,} more</td><td></td></tr>")
    head = "<tr><th>reason</th><th>document</th><th></th></tr>"
    return _section(f"{title}: examples", f"<table>{head}{''.join(rows)}</table>")
