"""Ray's TorchTrainer without what a training here has no use for.

Beside the controller Ray starts one that hands out datasets and one that frees the workers' places when the controller dies: processes
to come up before the first step. Workers here read their own rows, and a driver whose controller died ends, with everything it started.
And one worker by itself needs no process group: with one, the model would be wrapped in DistributedDataParallel, which reduces every
gradient with nobody. Made for the pinned version of Ray: the method overridden here is its own.
"""

from typing import Any

from ray.train.backend import Backend
from ray.train.torch import TorchConfig, TorchTrainer

from cluster.domain.recipes import TrainRecipe

_LEFT_OUT = ("PlacementGroupCleanerCallback", "DatasetsCallback", "ControllerMetricsCallback", "WorkerMetricsCallback")


class Alone(TorchConfig):
    """For one worker that shards nothing: no process group is opened."""

    @property
    def backend_cls(self) -> type[Backend]:
        return Backend


class LeanTrainer(TorchTrainer):
    """A TorchTrainer for workers that read their own rows."""

    def _create_default_callbacks(self) -> list[Any]:
        return [one for one in super()._create_default_callbacks() if type(one).__name__ not in _LEFT_OUT]


def backend(recipe: TrainRecipe) -> TorchConfig:
    """How the workers of a recipe come together."""
    if recipe.workers == 1 and not recipe.zero and recipe.sharding != "fsdp":
        return Alone()
    return TorchConfig(backend="nccl" if recipe.gpus_per_worker else "gloo")
