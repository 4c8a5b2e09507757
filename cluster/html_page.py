"""Pages that stand alone: no script, nothing loaded from anywhere; plots are SVG in the page, and every text is escaped."""

from collections.abc import Sequence
from html import escape

WIDTH, BAR, LABEL = 640, 22, 190
COLOURS = {"good": "#2f7d4f", "warn": "#b98a1d", "bad": "#a8433a", "plain": "#3c6e9f", "faint": "#9aa7b2"}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1d2730; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem } h3 { font-size: 1rem; margin-top: 1.6rem }
table { border-collapse: collapse } td, th { text-align: left; padding: .2rem .9rem .2rem 0; vertical-align: top }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums } td { overflow-wrap: anywhere }
pre, code { background: #f1f4f6; padding: 0 .2rem; overflow-wrap: anywhere; white-space: pre-wrap; margin: 0; font-size: 13px }
figure { margin: 0 } text { font: 13px system-ui, sans-serif } svg { max-width: 100%; height: auto }
"""


def document(title: str, parts: Sequence[str]) -> str:
    """The whole page of parts that are HTML already."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def section(title: str, body: str, level: int = 2) -> str:
    """A part under a heading; ``body`` is HTML."""
    return f"<h{level}>{escape(title)}</h{level}>\n{body}"


def facts(rows: Sequence[tuple[str, str]], side: str = "number") -> str:
    """Names and values; the values are HTML, at the right ("number") or at the left ("text")."""
    said = "".join(f'<tr><th>{escape(name)}</th><td class="{side}">{value}</td></tr>' for name, value in rows)
    return f"<table>{said}</table>"


def bars(values: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars, each with its label, value and colour."""
    most = max((value for _, value, _ in values), default=0) or 1
    drawn = []
    for number, (label, value, colour) in enumerate(values):
        top, length = number * BAR, (WIDTH - LABEL - 90) * value / most
        drawn.append(
            f'{label_at(top, label)}<rect x="{LABEL}" y="{top + 3}" width="{max(1.0, length):.1f}" height="{BAR - 6}" '
            f'fill="{COLOURS[colour]}"/><text x="{LABEL + length + 6:.1f}" y="{top + 15}">{value:,}</text>'
        )
    return figure("; ".join(f"{label}: {value:,}" for label, value, _ in values), drawn, len(values))


def label_at(top: float, label: str) -> str:
    """A row's label, shortened in its middle where it is long."""
    short = label if len(label) <= 28 else f"{label[:13]}…{label[-13:]}"
    return f'<text x="{LABEL - 8}" y="{top + 15}" text-anchor="end">{escape(short)}</text>'


def figure(said: str, drawn: Sequence[str], rows: int) -> str:
    """An SVG of ``rows`` rows; ``said`` is the plot in words, for those who cannot see it."""
    size = f'viewBox="0 0 {WIDTH} {rows * BAR}" width="{WIDTH}" height="{rows * BAR}"'
    return f'<figure><svg role="img" aria-label="{escape(said)}" {size}>{"".join(drawn)}</svg></figure>'
