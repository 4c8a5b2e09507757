"""The application on an engine of its own, without Ray Serve and without the cluster, for whoever starts it: `python -m serve_app.offline`.

The same gateway, retrieval, rendering, validation and vLLM engine as are served, in one process on a free port of this machine. It prints
one line of JSON, ``{"address": …}`` when it can answer or ``{"error": …}`` when it cannot, and ends when its standard input does, vLLM's
processes with it: so nothing outlives the process that holds the other end. Evaluation launches it by name.
`--base NAME` says which of the bases is served, the first one without it.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from cluster.catalog import Catalog
from cluster.errors import TreadleError, one_sentence
from cluster.ray_lifecycle import ray_environment, ray_of_this_process
from cluster.settings import Settings, load_settings

ENDS_WITHIN_SECONDS = 30.0
Say = Callable[[dict[str, str]], None]


async def serve(settings: Settings, say: Say) -> None:
    """Answers until standard input ends. ``settings`` are those of one base (``Settings.for_base``)."""
    os.environ.update(ray_environment(settings))  # before Ray is imported: it reads its token's place once
    from serve_app.app import vllm_environment

    os.environ.update(vllm_environment(settings))
    import uvicorn

    from serve_app.gateway import Gateway, build_app
    from serve_app.vllm_engine import VllmEngine

    ray_of_this_process(settings)  # ray.serve.llm's engine asks one where to run; this one ends with the process
    engine = await VllmEngine.started(settings)
    gateway = await Gateway.started(settings, {settings.models.base.name: engine})
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(build_app(gateway), log_level="warning", lifespan="off"))
    answering = asyncio.create_task(server.serve(sockets=[listening]))
    say({"address": f"http://127.0.0.1:{listening.getsockname()[1]}"})
    await asyncio.to_thread(sys.stdin.buffer.read)
    server.should_exit = True
    await answering
    await gateway.close()
    engine.engine.client.shutdown()


def _end_soon() -> None:
    """Whatever libraries wait for at the end, this process and those it started are gone in a while, if it heads their group."""

    def end() -> None:
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    last = threading.Timer(ENDS_WITHIN_SECONDS, end)
    last.daemon = True
    last.start()


def _own_stdout() -> Say:
    """Standard output for our one line; what vLLM and its processes print goes to standard error."""
    line = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(value: dict[str, Any]) -> None:
        line.write(json.dumps(value) + "\n")
        line.flush()

    return say


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m serve_app.offline")
    parser.add_argument("--base", help="the base that is served, by its name in configs/models.yaml; the first one without it")
    given = parser.parse_args(argv)
    say = _own_stdout()
    try:
        settings = load_settings()
        settings = settings.for_base(given.base or settings.models.base.name)
        Catalog(settings.catalog_url).prepare().close()
        asyncio.run(serve(settings, say))
    except TreadleError as error:
        say({"error": error.message})
        return 1
    except BrokenPipeError:  # nobody holds the other end any more
        return 1
    except Exception as error:  # whatever vLLM raises when it cannot run the model
        traceback.print_exc()
        say({"error": f"The engine did not start: {one_sentence(error)}"})
        return 1
    finally:
        _end_soon()
    return 0


if __name__ == "__main__":
    from serve_app import offline

    sys.exit(offline.main())
