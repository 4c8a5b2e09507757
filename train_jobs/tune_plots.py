"""Pictures of a search: how it went, which values went together, and which fields mattered."""

import logging
import warnings
from pathlib import Path
from typing import Any

from cluster.domain.recipes import TuneRecipe

log = logging.getLogger(__name__)
_SIZE = (9.0, 4.8)


def draw(recipe: TuneRecipe, rows: list[dict[str, Any]], distributions: dict[str, Any], folder: Path) -> list[Path]:
    """``history.png``, ``parallel_coordinates.png`` and ``importance.png`` in ``folder``.

    The importance of fields is fANOVA's (Hutter et al., 2014) on the trials that were measured; with fewer than two of them, or equal
    results, there is none to draw.
    """
    import matplotlib

    matplotlib.use("Agg")
    import optuna
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as pictures

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize" if recipe.mode == "min" else "maximize")
    for row in rows:
        if row["value"] is not None:
            study.add_trial(optuna.trial.create_trial(params=row["sampled"], distributions=distributions, value=row["value"]))
    drawn = {
        "history": lambda: pictures.plot_optimization_history(study, target_name=recipe.metric),
        "parallel_coordinates": lambda: pictures.plot_parallel_coordinate(study, target_name=recipe.metric),
        "importance": lambda: pictures.plot_param_importances(study, target_name=recipe.metric),
    }
    made = []
    for name, make in drawn.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls its pictures experimental
            try:
                axes = make()
            except (RuntimeError, ValueError) as error:
                log.warning("%s.png was not drawn: %s", name, error)
                continue
            axes.figure.set_size_inches(*_SIZE)
            axes.figure.savefig(folder / f"{name}.png", dpi=120, bbox_inches="tight")
            made.append(folder / f"{name}.png")
    pyplot.close("all")
    return made
