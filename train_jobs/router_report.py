"""What a router's head mixes up, as a figure and as JSON, for MLflow."""

from pathlib import Path
from typing import Any, Sequence

import numpy as np
from numpy.typing import NDArray

NOBODY = "out of scope"
_LABELLED = 30  # classes; more have no room for names
_WORST = 20


def table(matrix: NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
    """``matrix`` (classes, classes): rows are the right class, columns the one given; the most frequent mistakes first in ``worst``."""
    classes = [*names, NOBODY]
    wrong = np.where(np.eye(len(classes), dtype=bool), 0, matrix)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_WORST]
    pairs = [divmod(int(place), len(classes)) for place in order if wrong.flat[place]]
    worst = [{"right": classes[row], "given": classes[column], "texts": int(wrong[row, column])} for row, column in pairs]
    return {"classes": classes, "matrix": matrix.tolist(), "worst": worst}


def draw(matrix: NDArray[np.int64], names: Sequence[str], path: Path) -> None:
    """The matrix as a PNG, each row as shares of its class; counts stand in the cells while there is room for them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    classes = [*names, NOBODY]
    side = min(12.0, 3.0 + 0.35 * len(classes))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    figure.colorbar(axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0), ax=axes, label="share of the texts of a row")
    axes.set(xlabel="given to", ylabel="for", title=f"Held-out routing, {int(matrix.sum())} texts")
    if len(classes) <= _LABELLED:
        axes.set_xticks(range(len(classes)), classes, rotation=60, ha="right")
        axes.set_yticks(range(len(classes)), classes)
        for row, column in np.argwhere(matrix > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=7, color=colour)
    figure.savefig(path, dpi=120)
