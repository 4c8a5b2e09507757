"""An ingest's report as one HTML page: what came in and what became of it, why, how large, how fast; with examples."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from cluster.domain.documents import Dropped, IngestReport, Quarantined
from cluster.html_page import bars, document, facts, section

_EXAMPLES = 5


def page(report: IngestReport, lengths: Sequence[int], kinds: Mapping[str, int], stages: Mapping[str, float]) -> str:
    """The whole page. ``lengths``: characters of each kept document; ``kinds``: kept documents by media type; ``stages``: seconds."""
    summary = report.summary()
    documents = summary["documents"]
    outcomes = [("kept", report.kept, "good"), ("dropped", len(report.dropped), "warn")]
    outcomes.append(("quarantined", len(report.quarantined), "bad"))
    reasons = [(reason, count, "warn") for reason, count in _by_count(documents["dropped"])]
    reasons += [(reason, count, "bad") for reason, count in _by_count(documents["quarantined"])]
    title = f"{report.corpus} version {report.version}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _facts(report, summary),
        section("What became of the documents", bars(outcomes)),
        section("Why documents are not in the corpus", bars(reasons) if reasons else "<p>All of them are.</p>"),
        section("How long the kept documents are (characters)", bars(_histogram(lengths))),
        section("What they are", bars([(kind, count, "plain") for kind, count in _by_count(kinds)])),
        section("Where the time went (seconds)", bars([(name, round(took, 2), "plain") for name, took in stages.items()])),
        _examples("Dropped", report.dropped),
        _examples("Quarantined", report.quarantined),
    ]
    return document(title, parts)


def _facts(report: IngestReport, summary: Mapping[str, Any]) -> str:
    rows = [
        ("documents in", f"{report.documents_in:,}"),
        ("kept", f"{report.kept:,}"),
        ("passages", f"{report.passages:,}"),
        ("read", f"{report.bytes_in / 1e6:,.1f} MB"),
        ("took", f"{report.seconds:,.1f} s, {summary['mb_per_s']:g} MB/s"),
        ("digest", f"<code>{escape(report.digest[:16])}</code>"),
    ]
    return facts(rows)


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


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
    return section(f"{title}: examples", f"<table>{head}{''.join(rows)}</table>")
