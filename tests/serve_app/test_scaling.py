"""How many engines there are, as Serve is told."""

import sys
from itertools import cycle

import pytest
from pydantic import ValidationError
from ray.serve.config import AutoscalingConfig

from cluster.settings import EngineSettings, Settings
from serve_app.app import EngineDeployment, graph, import_ray_llm, scale


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


@pytest.mark.parametrize("looks", [[True], [False, True], [False, True, False, True]])
def test_engines_that_start_together_do_not_trip_over_ray_llms_registry(
    looks: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``looks``: whether the registry has a connector, one look after another; the last answer stays."""
    from ray.llm._internal.serve.utils.registry import ComponentRegistry

    given = iter(looks)
    monkeypatch.setattr(ComponentRegistry, "contains", lambda *_: next(given, looks[-1]))
    name = "ray.llm._internal.serve.engines.vllm.kv_transfer.factory"
    kept = sys.modules.pop(name, None)
    try:
        import_ray_llm()
        assert name in sys.modules
        sys.modules.pop(name)
        monkeypatch.setattr(ComponentRegistry, "contains", lambda *_: next(forever))
        forever = cycle([False, True])
        with pytest.raises(ValueError, match="already registered"):
            import_ray_llm(tries=3)
    finally:
        sys.modules.pop(name, None)
        if kept is not None:
            sys.modules[name] = kept
