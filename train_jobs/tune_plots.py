"""Pictures of a search: how it went, which values went together, and which fields mattered."""

import json
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
    readable = {name: _readable(one) for name, one in distributions.items()}
    study = optuna.create_study(direction="minimize" if recipe.mode == "min" else "maximize")
    for row in rows:
        if row["value"] is not None:
            study.add_trial(
                optuna.trial.create_trial(
                    params={name: _words(value) for name, value in row["sampled"].items()},
                    distributions=readable,
                    value=row["value"],
                )
            )
    fanova = optuna.importance.FanovaImportanceEvaluator(seed=recipe.seed)
    drawn = {
        "history": ("Trials in their order", lambda: pictures.plot_optimization_history(study, target_name=recipe.metric)),
        "parallel_coordinates": (
            "Each line a trial, the better the darker",
            lambda: pictures.plot_parallel_coordinate(study, target_name=recipe.metric),
        ),
        "importance": (
            f"How much of the differences in {recipe.metric} each field explains",
            lambda: pictures.plot_param_importances(study, evaluator=fanova, target_name=recipe.metric),
        ),
    }
    made = []
    for name, (title, make) in drawn.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls its pictures experimental
            try:
                axes = make()
            except (RuntimeError, ValueError) as error:
                log.warning("%s.png was not drawn: %s", name, error)
                continue
            for one in axes.figure.axes:
                for place in ("left", "center", "right"):
                    one.set_title("", loc=place)
            axes.set(
                xlabel={"importance": "share", "history": "trial"}.get(name, ""), ylabel=axes.get_ylabel() * (name == "history")
            )
            axes.figure.suptitle(title, fontsize=12)
            axes.figure.set_size_inches(*_SIZE)
            axes.figure.savefig(folder / f"{name}.png", dpi=120, bbox_inches="tight")
            made.append(folder / f"{name}.png")
    pyplot.close("all")
    return made


def _readable(distribution: Any) -> Any:
    """The same distribution, its choices as words."""
    from optuna.distributions import CategoricalDistribution

    if not isinstance(distribution, CategoricalDistribution):
        return distribution
    return CategoricalDistribution([_words(one) for one in distribution.choices])


def _words(value: Any) -> Any:
    """A choice without its JSON."""
    if not isinstance(value, str):
        return value
    known = json.loads(value)
    if known is None:
        return "default"
    return " ".join(str(one).removesuffix("_proj") for one in known) if isinstance(known, list) else str(known)
