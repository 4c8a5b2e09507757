"""The deployment graph, and the only place with Ray decorators.

    Router (HTTP, stateless, scales out) ──handle, gRPC──▶ Engine (vLLM, one per base model, every release a LoRA on it)

`python -m serve_app.app --deploy` puts it on the running cluster and returns when it can answer; `--remove` takes it off.
"""

import argparse
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from cluster import ray_lifecycle, tls
from cluster.catalog import Catalog
from cluster.errors import TreadleError, Unavailable, one_sentence
from cluster.settings import ROOT, Settings, cpu_cores, load_settings
from serve_app.engine import Delta, EngineState, GenerationRequest, ToolCalls

APP = "treadle"
SMALL_MACHINE_CORES = 4
_LOGGING = LoggingConfig(enable_access_log=False)


@serve.deployment(name="Engine", max_ongoing_requests=256, max_constructor_retry_count=1, logging_config=_LOGGING)
class EngineDeployment:
    """vLLM in a replica. Errors travel as values: an exception would cross processes as Ray's own type."""

    async def __init__(self, settings: Settings) -> None:
        from serve_app.vllm_engine import VllmEngine

        self._engine = await VllmEngine.started(settings)

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Delta | TreadleError]:
        try:
            async for delta in self._engine.generate(request):
                yield delta
        except TreadleError as error:
            yield error

    async def load(self, adapter: str) -> TreadleError | None:
        try:
            await self._engine.load(adapter)
        except TreadleError as error:
            return error
        return None

    async def tool_calls(self, text: str, tools: list[dict[str, Any]]) -> ToolCalls | TreadleError:
        try:
            return await self._engine.tool_calls(text, tools)
        except TreadleError as error:
            return error

    async def state(self) -> EngineState:
        return await self._engine.state()

    async def ready(self) -> None:
        """Returns once the constructor has."""

    async def check_health(self) -> None:
        await self._engine.check_health()


class RemoteEngine:
    """The Engine deployment as an ``Engine``. Deltas come over gRPC, not through the object store: twice the throughput."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._generate = handle.options(stream=True, _by_reference=False).generate
        self._load = handle.options(_by_reference=False).load
        self._tool_calls, self._state = handle.tool_calls, handle.state

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        response = self._generate.remote(request)
        finished = False
        try:
            async for delta in response:
                if isinstance(delta, TreadleError):
                    finished = True
                    raise delta
                finished = delta.finish_reason is not None
                yield delta
            finished = True
        finally:
            if not finished:
                response.cancel()

    async def load(self, adapter: str) -> None:
        error = await self._load.remote(adapter)
        if error is not None:
            raise error

    async def tool_calls(self, text: str, tools: Sequence[dict[str, Any]]) -> ToolCalls:
        found = await self._tool_calls.remote(text, list(tools))
        if isinstance(found, TreadleError):
            raise found
        return ToolCalls(*found)

    async def state(self) -> EngineState:
        return EngineState(*await self._state.remote())


@serve.deployment(name="Router", max_ongoing_requests=1000, max_constructor_retry_count=1, logging_config=_LOGGING)
@serve.ingress()
class RouterDeployment:
    """The HTTP ingress."""

    async def __init__(self, settings: Settings, engine: DeploymentHandle[Any]) -> None:
        from serve_app.gateway import Gateway

        await engine.ready.remote()
        self._gateway = await Gateway.started(settings, RemoteEngine(engine))

    async def __serve_build_asgi_app__(self) -> Any:
        from serve_app.gateway import build_app

        return build_app(self._gateway)


def graph(settings: Settings) -> serve.Application:
    """The application for these settings."""
    engine, router = settings.engine, settings.router
    runtime = {} if settings.ray.working_dir else {"PYTHONPATH": str(ROOT)}
    worker: dict[str, float] = {"CPU": 1.0, "GPU": 1.0} if engine.device == "gpu" else {"CPU": max(1.0, engine.cpus)}
    engine_app = EngineDeployment.options(
        num_replicas=engine.replicas,
        ray_actor_options={"num_cpus": 0.1, "runtime_env": {"env_vars": {**runtime, **vllm_environment(settings)}}},
        placement_group_bundles=[{**worker, "CPU": worker["CPU"] + 0.1}, *([worker] * (engine.tensor_parallel_size - 1))],
        placement_group_strategy="PACK",
    ).bind(settings)
    return RouterDeployment.options(
        num_replicas=router.replicas,
        ray_actor_options={"num_cpus": router.cpus, "runtime_env": {"env_vars": runtime}},
    ).bind(settings, engine_app)


def vllm_environment(settings: Settings) -> dict[str, str]:
    """What must be set before vLLM is imported."""
    names = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if settings.engine.device == "cpu" and cpu_cores() <= SMALL_MACHINE_CORES:
        # The Router and vLLM's own front end need a core too, and threads that wait for one another are slower than one.
        names["OMP_NUM_THREADS"] = str(max(1, cpu_cores() - 1))
    return names


def connect(settings: Settings) -> ray_lifecycle.ClusterState:
    """Join the running cluster. Raises Unavailable when there is none."""
    import ray

    found = ray_lifecycle.connection(settings)
    runtime = (
        {"working_dir": str(ROOT), "excludes": [".venv", ".git", "models/*/checkpoints"]} if settings.ray.working_dir else {}
    )
    try:
        ray.init(
            address=found.address, namespace="treadle", runtime_env=runtime, log_to_driver=False, logging_level=logging.ERROR
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise Unavailable(f"Ray at {found.address} cannot be reached: {one_sentence(error)}") from None
    return found


def _say(line: str) -> None:
    print(line, file=sys.__stdout__, flush=True)


def deploy(settings: Settings) -> None:
    """Put the application on the cluster and wait until it answers, saying how far it is."""
    began = time.monotonic()
    Catalog(settings.catalog_url).prepare()
    _say("joining the cluster")
    found = connect(settings)
    place = urlsplit(found.serve)
    pair = tls.files(settings)
    secured = {} if pair is None else {"ssl_certfile": str(pair[0]), "ssl_keyfile": str(pair[1])}
    serve.start(http_options={"host": place.hostname, "port": place.port or 80, **secured}, logging_config=_LOGGING)
    _say(f"starting Router and Engine ({settings.models.base.name} on {settings.engine.device})")
    told = threading.Event()
    teller = threading.Thread(target=_tell, args=(told, began), daemon=True)
    teller.start()
    try:
        serve.run(graph(settings), name=APP, route_prefix="/")
    except RuntimeError as error:
        raise Unavailable(f"The application did not start: {_cause() or one_sentence(error)}") from None
    finally:
        told.set()
    _say(f"ready at {found.serve} after {time.monotonic() - began:.0f} s")


def _tell(done: threading.Event, began: float) -> None:
    said = ""
    while not done.wait(1.0):
        try:
            deployments = serve.status().applications[APP].deployments
        except Exception:  # the status is a courtesy; what is wrong comes out of serve.run
            continue
        now = ", ".join(f"{name} {one.status.value.lower()}" for name, one in sorted(deployments.items()))
        if now != said:
            said = now
            _say(f"{now} ({time.monotonic() - began:.0f} s)")


def _cause() -> str:
    """The last line of what a deployment that failed says."""
    try:
        deployments = serve.status().applications[APP].deployments.values()
    except Exception:  # Serve is gone as well
        return ""
    for one in deployments:
        lines = [line.strip() for line in one.message.splitlines() if line.strip()]
        if "FAILED" in one.status.value and lines:
            return lines[-1]
    return ""


def remove(settings: Settings) -> None:
    """Take the application off the cluster; Ray goes on."""
    connect(settings)
    serve.delete(APP)
    _say("the application is gone")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; progress goes to stdout, one sentence on failure is its last line."""
    parser = argparse.ArgumentParser(prog="python -m serve_app.app", description=__doc__.splitlines()[0] if __doc__ else "")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument(
        "--deploy", action="store_true", help="put the application on the running cluster and wait until it is ready"
    )
    action.add_argument("--remove", action="store_true", help="take it off")
    given = parser.parse_args(argv)
    sys.stdout = sys.stderr  # Ray prints warnings for its drivers, to the very end of the process; stdout is for our own lines
    try:
        settings = load_settings()
        (deploy if given.deploy else remove)(settings)
    except TreadleError as error:
        _say(error.message)
        return 1
    return 0


if __name__ == "__main__":
    # Ray pickles classes of __main__ by value; imported by their name they stay one class in every process.
    from serve_app import app

    sys.exit(app.main())
