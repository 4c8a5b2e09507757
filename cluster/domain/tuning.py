"""A search space over a recipe's fields: checked field by field, and turned into the recipe of one trial."""

import json
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from cluster.domain.parsing import parse
from cluster.domain.recipes import DpoRecipe, SftRecipe, TrainRecipe, TuneRecipe
from cluster.errors import RecipeError, near

# What decides which rows are trained and measured, or where: trials that differ there cannot be compared.
_SAME = ("agent", "datasets", "rows", "base", "parent", "replay", "eval_share", "eval_every", "patience", "workers", "bump")


def base_recipe(recipe: TuneRecipe) -> SftRecipe | DpoRecipe:
    """The recipe that trials vary, with the held-out rows and measurements that the search asks for. Raises RecipeError."""
    kind: type[TrainRecipe] = DpoRecipe if recipe.job == "dpo" else SftRecipe
    if isinstance(recipe.base, str):
        raise RecipeError(f"Base '{recipe.base}' is a file; it is read before a search begins (treadle train tune).")
    measured = {
        "eval_share": recipe.holdout,
        "eval_every": recipe.measure_every,
        "checkpoint_every": recipe.measure_every,
        "patience": None,
    }
    base: SftRecipe | DpoRecipe = parse(kind, {**recipe.base, **measured}, "base", RecipeError)
    if base.workers > 1 or base.zero or base.sharding == "fsdp":
        raise RecipeError(
            f"A trial is trained by one worker; set workers (now {base.workers}) to 1 and leave zero and sharding out."
        )
    if recipe.metric.startswith("eval_reward") and recipe.job != "dpo":
        raise RecipeError(
            f"metric '{recipe.metric}' is of preference pairs; an sft search is measured by eval_loss or eval_exact."
        )
    if recipe.metric == "eval_exact" and recipe.job != "sft":
        raise RecipeError("metric 'eval_exact' is of answers; a dpo search is measured by eval_loss or eval_reward_accuracy.")
    return base


def fields(kind: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Every field of a recipe by its dotted name, with its annotation."""
    found: dict[str, Any] = {}
    for name, about in kind.model_fields.items():
        inner = about.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= fields(inner, f"{prefix}{name}.")
        else:
            found[prefix + name] = inner
    return found


def with_values(base: TrainRecipe, values: dict[str, Any]) -> Any:
    """The recipe with these fields (dotted names) changed. Raises RecipeError when they do not go together."""
    return parse(type(base), _changed(base, values), "trial", RecipeError)


def _changed(base: TrainRecipe, values: dict[str, Any]) -> dict[str, Any]:
    changed = base.model_dump(mode="json")
    for name, value in values.items():
        inner = changed
        *path, last = name.split(".")
        for part in path:
            inner = inner[part]
        inner[last] = value
    return changed


def check_space(recipe: TuneRecipe, base: TrainRecipe) -> None:
    """Raises RecipeError in one sentence that names the field and the nearest valid one, or the value that the field cannot take."""
    known = {name: kind for name, kind in fields(type(base)).items() if name not in _SAME}
    for name, wanted in recipe.space.items():
        if name in _SAME:
            raise RecipeError(f"space: '{name}' is the same in all trials, or they could not be compared; set it in 'base'.")
        if name not in known:
            close = near(name, known, most=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(sorted(known))}."
            raise RecipeError(f"space: the recipe has no field '{name}'; {hint}")
        if wanted.values is None and not {int, float} & {known[name], *get_args(known[name])}:
            raise RecipeError(f"space: '{name}' is no number; give 'values' in place of low and high.")
        for value in wanted.values or wanted.span:
            if wanted.values is None and whole(known[name]):
                if value != int(value):
                    raise RecipeError(f"space: '{name}' is a whole number; {value:g} is none.")
                value = int(value)
            _check_value(base, name, value)
    if base.parent and any(name.startswith("lora.") for name in recipe.space) and recipe.job == "sft":
        raise RecipeError(
            f"space: the shape of an adapter cannot be searched while it continues '{base.parent}'; set parent to null."
        )


def _check_value(base: TrainRecipe, name: str, value: Any) -> None:
    try:
        type(base).model_validate(_changed(base, {name: value}))
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise RecipeError(f"space: '{name}' cannot be {value!r}: {reason[:1].lower() + reason[1:]}.") from None


def whole(annotation: Any) -> bool:
    """Whether a field holds whole numbers."""
    kinds = {annotation, *get_args(annotation)}
    return int in kinds and float not in kinds


def category(value: Any) -> str:
    """A choice as the text by which samplers know it; ``chosen`` turns it back."""
    return json.dumps(value, sort_keys=True)


def chosen(recipe: TuneRecipe, sampled: dict[str, Any]) -> dict[str, Any]:
    """A sampler's suggestion as values of the recipe's fields."""
    return {name: json.loads(value) if recipe.space[name].values else value for name, value in sampled.items()}


def most_steps(recipe: TuneRecipe, base: TrainRecipe) -> int:
    """The steps of the longest trial there can be."""
    wanted = recipe.space.get("max_steps")
    if wanted is None:
        return base.max_steps
    return max(int(value) for value in wanted.values or wanted.span)
