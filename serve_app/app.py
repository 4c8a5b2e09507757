"""The deployment graph, and the only place with Ray decorators.

    Router (HTTP, stateless, scales out) ──handle, gRPC──▶ Engine, Engine-NAME… (vLLM, one per base model, its releases LoRAs on it)

Router replicas hold the public port themselves (``http_server``), unless the settings give it to Serve's proxies.

`python -m serve_app.app --deploy` puts it on the running cluster and returns when it can answer; `--remove` takes it off.
"""

import argparse
import asyncio
import importlib
import logging
import os
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
from cluster.settings import ROOT, EngineSettings, Settings, cpu_cores, load_settings
from serve_app.engine import Delta, EngineLost, EngineState, GenerationRequest, ToolCalls
from serve_app.http_server import HttpServer
from serve_app.remote_engine import RemoteEngine

APP = "treadle"
SMALL_MACHINE_CORES = 4
LAST_WORDS_SECONDS = 0.2
DRAIN_SECONDS = 120
"""How long an engine that is taken down may take for the answers under way; then they are written by another."""
ONE_LOOP = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0", "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0"}
"""For replicas: our code awaits everywhere, so it needs no thread of its own, and every token between threads costs."""
_LOGGING = LoggingConfig(enable_access_log=False)


def import_ray_llm(tries: int = 10) -> None:
    """Ray LLM registers its connectors for the whole cluster when it is imported, and fails where another process did so after its look, as
    engines that start at the same time do. The next look finds them. Raises ValueError when it never does."""
    for left in reversed(range(tries)):
        try:
            importlib.import_module("ray.llm._internal.serve.engines.vllm.kv_transfer.factory")
            return
        except ValueError as error:
            if "already registered" not in str(error) or not left:
                raise


@serve.deployment(
    name="Engine", max_ongoing_requests=256, max_constructor_retry_count=1, health_check_period_s=2, logging_config=_LOGGING
)
class EngineDeployment:
    """vLLM in a replica. Errors travel as values: an exception would cross processes as Ray's own type."""

    async def __init__(self, settings: Settings) -> None:
        """``settings`` are those of its base (``Settings.for_base``)."""
        import_ray_llm()
        from serve_app.vllm_engine import VllmEngine

        self._engine = await VllmEngine.started(settings)

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Delta | TreadleError]:
        try:
            async for delta in self._engine.generate(request):
                yield delta
        except TreadleError as error:
            if isinstance(error, EngineLost):
                self._end()
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

    def _end(self) -> None:
        """End this replica: its vLLM is dead, and until Serve notices it would win every request by failing fastest."""
        asyncio.get_running_loop().call_later(LAST_WORDS_SECONDS, os._exit, 1)


@serve.deployment(name="Router", max_ongoing_requests=1000, max_constructor_retry_count=1, logging_config=_LOGGING)
@serve.ingress()
class RouterDeployment:
    """The HTTP ingress. ``engines`` by the names of their bases; ``port`` None: Serve's proxies hold it."""

    async def __init__(self, settings: Settings, engines: dict[str, DeploymentHandle[Any]], port: int | None = None) -> None:
        from serve_app.gateway import Gateway, build_app

        for engine in engines.values():
            await engine.ready.remote()
        self._gateway = await Gateway.started(settings, {name: RemoteEngine(engine) for name, engine in engines.items()})
        self._app, self._server = build_app(self._gateway), None
        if port is not None:
            self._server = await HttpServer.started(self._app, settings.serve.host, port, tls.files(settings))

    _server: HttpServer | None

    async def __serve_build_asgi_app__(self) -> Any:
        return self._app

    async def check_health(self) -> None:
        if self._server is not None and not self._server.alive():
            raise Unavailable("The HTTP endpoint of this replica is gone.")

    async def __del__(self) -> None:
        server = getattr(self, "_server", None)
        if server is not None:
            await server.end()


def graph(settings: Settings, port: int) -> serve.Application:
    """The application for these settings, on this public port."""
    router = settings.router
    runtime = {} if settings.ray.working_dir else {"PYTHONPATH": str(ROOT)}
    runtime |= ONE_LOOP
    names = [role.name for role in settings.bases]
    engines = {
        name: _engine("Engine" if name == names[0] else f"Engine-{name}", settings.for_base(name), runtime) for name in names
    }
    return RouterDeployment.options(
        num_replicas=router.replicas,
        ray_actor_options={"num_cpus": router.cpus, "runtime_env": {"env_vars": runtime}},
    ).bind(settings, engines, port if settings.serve.front == "router" else None)


def _engine(name: str, settings: Settings, runtime: dict[str, str]) -> serve.Application:
    """The deployment of one base, whose settings these are."""
    engine = settings.engine
    worker: dict[str, float] = {"CPU": 1.0, "GPU": 1.0} if engine.device == "gpu" else {"CPU": max(1.0, engine.cpus)}
    return EngineDeployment.options(
        name=name,
        **scale(engine),
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        ray_actor_options={"num_cpus": 0.1, "runtime_env": {"env_vars": {**runtime, **vllm_environment(settings)}}},
        placement_group_bundles=[{**worker, "CPU": worker["CPU"] + 0.1}, *([worker] * (engine.tensor_parallel_size - 1))],
        placement_group_strategy="PACK",
    ).bind(settings)


def scale(engine: EngineSettings) -> dict[str, Any]:
    """How many replicas, in Serve's words."""
    if engine.max_replicas is None:
        return {"num_replicas": engine.replicas}
    return {
        "autoscaling_config": {
            "min_replicas": engine.replicas,
            "max_replicas": engine.max_replicas,
            "target_ongoing_requests": engine.answers_per_replica,
            "upscale_delay_s": engine.upscale_seconds,
            "downscale_delay_s": engine.downscale_seconds,
        }
    }


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
    port = place.port or 80
    if settings.serve.front == "router":
        serve.start(proxy_location="Disabled", logging_config=_LOGGING)
    else:
        serve.start(http_options={"host": place.hostname, "port": port, **secured}, logging_config=_LOGGING)
    own = [settings.for_base(role.name) for role in settings.bases]
    _say(f"starting Router and Engine ({', '.join(f'{one.models.base.name} on {one.engine.device}' for one in own)})")
    told = threading.Event()
    teller = threading.Thread(target=_tell, args=(told, began), daemon=True)
    teller.start()
    try:
        serve.run(graph(settings, port), name=APP, route_prefix="/")
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
