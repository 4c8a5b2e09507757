"""Ray's TorchTrainer without the actors that a training here has no use for.

Beside the controller Ray starts one that hands out datasets and one that frees the workers' places when the controller dies: processes
to come up before the first step. Workers here read their own rows, and a driver whose controller died ends, with everything it started.
Made for the pinned version of Ray: the method overridden here is its own.
"""

from typing import Any

from ray.train.torch import TorchTrainer

_LEFT_OUT = ("PlacementGroupCleanerCallback", "DatasetsCallback", "ControllerMetricsCallback", "WorkerMetricsCallback")


class LeanTrainer(TorchTrainer):
    """A TorchTrainer for workers that read their own rows."""

    def _create_default_callbacks(self) -> list[Any]:
        return [one for one in super()._create_default_callbacks() if type(one).__name__ not in _LEFT_OUT]
