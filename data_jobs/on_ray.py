"""Where a data job meets Ray: connecting, and cutting its input into few, bounded blocks."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cluster.errors import Unavailable
from cluster.ray_lifecycle import connection
from cluster.settings import Settings, cpu_cores

Row = dict[str, Any]
_ITEMS_PER_BLOCK = 32
_BYTES_PER_BLOCK = 16 << 20
_MOST_BLOCKS = 2000


def connect(settings: Settings) -> None:
    """Connects to the running cluster (Ray's own address under `ray job submit`), or starts a small Ray that ends with this process."""
    import logging

    import ray

    if ray.is_initialized():
        return
    try:
        address: str | None = connection(settings).address
    except Unavailable:
        address = settings.ray.address
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    except ConnectionError as error:
        raise Unavailable(f"Ray at {address} does not answer ({error}); start it with: treadle up") from None


def dataset_of(items: Sequence[Row], total_bytes: int = 0) -> Any:
    """A Ray dataset of ``items`` in so few blocks that a small job starts few workers, and so many that none is large."""
    import logging
    import warnings

    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # A bound above the number of blocks is no mistake here: it is the machine's, whatever the input.
    warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks", category=UserWarning)
    blocks = max(len(items) / _ITEMS_PER_BLOCK, total_bytes / _BYTES_PER_BLOCK)
    return ray.data.from_items(list(items), override_num_blocks=min(len(items), _MOST_BLOCKS, 1 + int(blocks)))


def tasks(settings: Settings) -> Any:
    """How many tasks of a step may run at a time: a machine's cores, because Ray may be told of more; unbounded on a cluster."""
    from ray.data import TaskPoolStrategy

    return TaskPoolStrategy(size=cpu_cores() if settings.ray.address is None else None)


def mapped(dataset: Any, step: Callable[[Row], Iterable[Row]], settings: Settings) -> Any:
    """``step`` over every row, giving any number of rows each."""
    return dataset.flat_map(step, compute=tasks(settings))
