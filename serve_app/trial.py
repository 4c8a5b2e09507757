"""A question's part in an experiment, on its way from the route to the record."""

from collections.abc import Callable
from dataclasses import dataclass

from cluster.domain.conversations import Turn
from cluster.domain.experiments import InExperiment


@dataclass(slots=True)
class Trial:
    """Filled in when it is known who is asked. ``champion_only``: the challenger has failed on it already. ``recorded`` hears of the turn
    once it is made."""

    mark: InExperiment | None = None
    conversation: str | None = None
    release: str = ""
    champion_only: bool = False
    recorded: Callable[[Turn], None] | None = None
