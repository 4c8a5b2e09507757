"""A lineage graph as a picture (SVG or PNG by the file's name), drawn by matplotlib alone.

Columns are layers (sources, what was learnt, releases, judgements, names), rows come in the order of the graph; nothing optimises
crossings, so a release with very many datasets makes a tall picture.
"""

import textwrap
from pathlib import Path

from cluster.artifacts import write_whole
from cluster.domain.lineage import Lineage, Node, NodeKind
from cluster.errors import InvalidInput

_LAYERS: dict[NodeKind, int] = {
    "documents": 0,
    "signals": 0,
    "dataset": 1,
    "index": 1,
    "base": 1,
    "recipe": 1,
    "release": 2,
    "evaluation": 3,
    "gate": 4,
    "alias": 5,
}
# Light fills under black text, told apart by colour-blind people too (after Okabe and Ito).
_FILLS: dict[NodeKind, str] = {
    "documents": "#f2f2f2",
    "signals": "#fbe3c8",
    "dataset": "#d6ecfa",
    "index": "#d6ecfa",
    "base": "#e6e6e6",
    "recipe": "#fdf6c3",
    "release": "#c9ead9",
    "evaluation": "#eadcf0",
    "gate": "#f9d3c4",
    "alias": "#ffffff",
}
_WIDE, _COLUMN, _ROW = 3.1, 3.8, 0.95  # inches: a box, from column to column, from row to row


def draw(graph: Lineage, file: Path) -> None:
    """Write the picture to ``file``. Raises InvalidInput when its name ends neither in .svg nor in .png."""
    kind = file.suffix.lower().removeprefix(".")
    if kind not in ("svg", "png"):
        raise InvalidInput(f"'{file}' is no picture that can be drawn; end its name in .svg or .png.")
    import io

    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    places = _places(graph)
    columns, rows = 1 + max(x for x, _ in places.values()), 1 + max(y for _, y in places.values())
    width, height = columns * _COLUMN, rows * _ROW + 0.6
    figure = Figure(figsize=(width, height), layout=None)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    axes.text(0.3, height - 0.3, f"Lineage of {graph.root}", fontsize=11, weight="bold", va="center")
    centres = {id_: (x * _COLUMN + 0.3 + _WIDE / 2, height - 0.6 - _ROW / 2 - y * _ROW) for id_, (x, y) in places.items()}
    for start, end in graph.edges:
        _arrow(axes, centres[start], centres[end])
    for node in graph.nodes:
        _box(axes, node, centres[node.id], node.id == graph.root)
    made = io.BytesIO()
    with rc_context({"svg.fonttype": "none"}):  # text stays text, to be searched and read aloud
        figure.savefig(made, format=kind, dpi=130)
    write_whole(file, made.getvalue())


def _places(graph: Lineage) -> dict[str, tuple[float, float]]:
    """Column and row of each node. Releases stand below their children; what flows into a release stands beside it."""
    places: dict[str, tuple[float, float]] = {}
    line = [node for node in graph.nodes if node.kind == "release"]
    used = sorted({_LAYERS[node.kind] for node in graph.nodes})
    column = {layer: float(number) for number, layer in enumerate(used)}
    top = 0.0
    for release in line:
        came = [node for node in graph.sources(release.id) if node.kind != "release" and node.id not in places]
        for number, node in enumerate(came):
            places[node.id] = (column[_LAYERS[node.kind]], top + number)
            for source in graph.sources(node.id):
                places[source.id] = (column[_LAYERS[source.kind]], top + number)
        made = [node for node in graph.nodes if release.id == graph.root and _LAYERS[node.kind] > _LAYERS["release"]]
        layers: dict[int, int] = {}
        for node in made:
            layer = _LAYERS[node.kind]
            places[node.id] = (column[layer], top + layers.get(layer, 0))
            layers[layer] = layers.get(layer, 0) + 1
        tall = max(1, len(came), *layers.values())
        places[release.id] = (column[_LAYERS["release"]], top + (tall - 1) / 2)
        top += tall + 0.3
    return places


def _arrow(axes: object, start: tuple[float, float], end: tuple[float, float]) -> None:
    from matplotlib.patches import FancyArrowPatch

    across = start[0] != end[0]
    tail = (start[0] + _WIDE / 2, start[1]) if across else (start[0], start[1] + _ROW * 0.37)
    head = (end[0] - _WIDE / 2, end[1]) if across else (end[0], end[1] - _ROW * 0.37)
    patch = FancyArrowPatch(tail, head, arrowstyle="-|>", mutation_scale=9, color="#666666", linewidth=0.9, shrinkA=0, shrinkB=1)
    axes.add_patch(patch)  # type: ignore[attr-defined]


def _box(axes: object, node: Node, centre: tuple[float, float], root: bool) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y = centre
    box = FancyBboxPatch(
        (x - _WIDE / 2 + 0.04, y - _ROW * 0.37 + 0.04),
        _WIDE - 0.08,
        _ROW * 0.74 - 0.08,
        boxstyle="round,pad=0.04",
        facecolor=_FILLS[node.kind],
        edgecolor="#1b6e4b" if root else "#888888",
        linewidth=1.8 if root else 0.8,
    )
    axes.add_patch(box)  # type: ignore[attr-defined]
    title = node.name if node.kind == "release" else f"{node.kind}: {node.name}"
    lines = textwrap.wrap(node.detail, 56)
    detail = lines if len(lines) <= 2 else [lines[0], _cut(lines[1] + " …", 56)]
    style = {"ha": "center", "parse_math": False}  # a dollar sign is a dollar sign
    axes.text(x, y, _cut(title, 42), fontsize=7.5, weight="bold", va="bottom" if detail else "center", **style)  # type: ignore[attr-defined]
    axes.text(x, y - 0.02, "\n".join(detail), fontsize=6.5, va="top", color="#333333", **style)  # type: ignore[attr-defined]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
