"""How many engines there are, as Serve is told."""

import pytest
from pydantic import ValidationError
from ray.serve.config import AutoscalingConfig

from cluster.settings import EngineSettings, Settings
from serve_app.app import EngineDeployment, graph, scale


def test_a_number_of_replicas_is_that_number(settings: Settings) -> None:
    two = EngineDeployment.options(**scale(EngineSettings(replicas=2)))
    assert two.num_replicas == 2
    assert graph(settings, 8000)._bound_deployment.name == "Router"


def test_replicas_come_and_go_with_the_answers_under_way() -> None:
    engine = EngineSettings(replicas=2, max_replicas=6, answers_per_replica=24, upscale_seconds=5)
    told = EngineDeployment.options(**scale(engine))._deployment_config.autoscaling_config
    assert isinstance(told, AutoscalingConfig)
    assert (told.min_replicas, told.max_replicas, told.target_ongoing_requests, told.upscale_delay_s) == (2, 6, 24, 5)


def test_less_than_there_must_be_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"max_replicas \(1\) is below replicas \(3\)"):
        EngineSettings(replicas=3, max_replicas=1)
