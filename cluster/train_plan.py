"""From a recipe to its memory plan: which model it means, how much memory its workers have, and whether that is enough."""

from pathlib import Path
from typing import Any

from cluster import base_model, machine
from cluster.domain import fitting, memory
from cluster.domain.base import Frozen
from cluster.domain.fitting import Verdict, gib
from cluster.domain.known_models import KNOWN, published
from cluster.domain.memory import GIB, MemoryPlan
from cluster.domain.model_shapes import ModelShape, shape_of
from cluster.domain.recipes import TrainRecipe
from cluster.errors import InvalidInput, NotFound, RecipeError, near
from cluster.settings import Settings


class TrainPlan(Frozen):
    """A memory plan with the model's name and, where the memory is known, the verdict. ``way_out`` is a clause; empty when it fits."""

    base: str
    device: str
    memory: MemoryPlan
    available: int | None = None
    verdict: Verdict | None = None
    way_out: str = ""

    @property
    def sentence(self) -> str:
        """What a person is told."""
        need = f"Training '{self.base}' by this recipe takes {gib(self.memory.total())} per worker"
        if self.available is None:
            return f"{need}; how much its {self.device} has is not known here: give --gpu-memory."
        have = f"the {self.device} has {gib(self.available)}"
        if self.verdict == "fits":
            return f"{need}, and {have}: it fits."
        if self.verdict == "tight":
            return f"{need} with a margin, and {have}: it fits only while nothing is wasted; {self.way_out}."
        return f"{need}, and {have}: it does not fit; {self.way_out}."


def model_config(location: str) -> dict[str, Any] | None:
    """The ``config.json`` of a model directory, of a hub id in this machine's cache, or of a published model; None for others."""
    if (Path(location) / "config.json").is_file():
        return base_model.config(location)
    return _cached(location) or published(location)


def _cached(model: str) -> dict[str, Any] | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, "config.json")
    except HFValidationError:  # no id at all
        return None
    return base_model.config(str(Path(found).parent)) if isinstance(found, str) else None


def planned(settings: Settings, recipe: TrainRecipe, gpu_memory: float | None = None) -> TrainPlan:
    """The plan of a recipe. ``gpu_memory``: GiB of one GPU, where it is not this machine's. Raises NotFound for a model whose shape is
    not known, InvalidInput for one of a kind that is not known."""
    role = base_model.base_role(settings, recipe.base)
    config = model_config(role.location)
    if config is None:
        close = near(role.location, KNOWN, most=1)
        hint = f"did you mean '{close[0]}'?" if close else "give a model directory, or the id of a published model."
        raise NotFound(f"The shape of base '{role.location}' is not known (no config.json on this machine); {hint}")
    return _judged(shape_of(config, role.name), role.name, recipe, gpu_memory, settings.ray.address is None)


def _judged(shape: ModelShape, name: str, recipe: TrainRecipe, gpu_memory: float | None, one_machine: bool) -> TrainPlan:
    counted = memory.plan(shape, recipe)
    available: int | None
    if recipe.gpus_per_worker > 0:
        device = "GPU" if recipe.gpus_per_worker >= 1 else f"part of a GPU ({recipe.gpus_per_worker:g})"
        whole = round(gpu_memory * GIB) if gpu_memory else machine.gpu_memory()
        available = round(whole * min(1.0, recipe.gpus_per_worker)) if whole else None
    else:
        device = "machine" if recipe.workers == 1 else f"machine, for each of {recipe.workers} workers,"
        available = machine.host_memory() // recipe.workers if one_machine else None
    if available is None:
        return TrainPlan(base=name, device=device, memory=counted)
    verdict = fitting.verdict(counted, available)
    way_out = "" if verdict == "fits" else fitting.way_out(shape, recipe, available)
    return TrainPlan(base=name, device=device, memory=counted, available=available, verdict=verdict, way_out=way_out)


def refuse_what_cannot_fit(settings: Settings, recipe: TrainRecipe) -> None:
    """Raises RecipeError when the recipe cannot fit its workers' memory, even without a margin. A model or a memory that is not known
    here is let through: its workers find out."""
    try:
        found = planned(settings, recipe)
    except (InvalidInput, NotFound):
        return
    if found.verdict == "does not fit":
        raise RecipeError(found.sentence)
