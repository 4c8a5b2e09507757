"""Where a data job meets Ray: connecting, and running a step over its input in few, bounded tasks."""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from cluster.ray_lifecycle import join, ray_environment, ray_of_this_process, reachable
from cluster.settings import Settings, cpu_cores

Row = dict[str, Any]
Step = Callable[[Row], Iterable[Row]]
_MOST_BLOCKS = 2000


def connect(settings: Settings, local: bool = False) -> None:
    """Connects to the running cluster (Ray's own address under `ray job submit`), or starts a small Ray that ends with this process:
    where none runs, or ``local`` asks for it."""
    os.environ.update(ray_environment(settings))  # before Ray is imported: it reads its token's place once
    import ray

    if ray.is_initialized():
        return
    if local or not (reachable(settings) or "RAY_ADDRESS" in os.environ):
        ray_of_this_process(settings)
    else:
        join(settings)


def dataset_of(items: Sequence[Row], blocks: int) -> Any:
    """A Ray dataset of ``items`` in this many blocks at most."""
    import logging
    import warnings

    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # A bound above the number of blocks is no mistake here: it is the machine's, whatever the input.
    warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks", category=UserWarning)
    return ray.data.from_items(list(items), override_num_blocks=max(1, min(len(items), _MOST_BLOCKS, blocks)))


def tasks(settings: Settings) -> Any:
    """How many tasks of a step may run at a time: a machine's cores, because Ray may be told of more; unbounded on a cluster."""
    from ray.data import TaskPoolStrategy

    return TaskPoolStrategy(size=cpu_cores() if settings.ray.address is None else None)


def spread(items: Sequence[tuple[Row, float]], step: Step, settings: Settings, most: float) -> Iterator[Row]:
    """What ``step`` makes of every item, as tasks come to their end. An item stands with its weight, and a task takes neighbours of
    about ``most`` in all: Ray Data looks for ended tasks ten times a second and spends some hundredths on each, so a task should last
    seconds. A small job is divided among the cores evenly."""
    import ray

    cores = cpu_cores() if settings.ray.address is None else int(ray.cluster_resources().get("CPU", 1))
    total = sum(weight for _, weight in items)
    count = cores * max(1, math.ceil(total / (most * cores)))
    bundles: list[list[Row]] = [[]]
    done = 0.0
    for item, weight in items:
        if done >= total * len(bundles) / count and bundles[-1]:
            bundles.append([])
        bundles[-1].append(item)
        done += weight
    rows = [{"bundle": json.dumps(bundle)} for bundle in bundles if bundle]
    yield from dataset_of(rows, len(rows)).flat_map(partial(_bundled, step=step), compute=tasks(settings)).iter_rows()


def _bundled(row: Row, step: Step) -> Iterator[Row]:
    for item in json.loads(row["bundle"]):
        yield from step(item)
