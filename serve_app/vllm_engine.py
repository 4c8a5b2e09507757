"""vLLM through ray.serve.llm's LLMServer: its only home. Every release that was trained on its base model is a LoRA there.

Requests go to the engine client as token ids, past vLLM's OpenAI layer: nothing is rendered, parsed or serialised twice. Adapters
come from the artifact store by name (``agent@version``; vLLM keys its prefix cache by that name, which is why names are never
reused), their digests verified, and are loaded before the first request that needs them, so that one that cannot be loaded is an
error of that request and of no other.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from itertools import count
from pathlib import Path
from typing import Any

from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from ray.serve.llm import LLMConfig, LLMServer
from vllm import SamplingParams
from vllm.config import StructuredOutputsConfig
from vllm.exceptions import GracefulHTTPError, VLLMClientError, VLLMServerError
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.exceptions import EngineDeadError

from cluster.artifacts import Artifacts
from cluster.base_model import base_digest
from cluster.catalog import Catalog, releases
from cluster.domain.base import new_id
from cluster.errors import InvalidInput, TreadleError, Unavailable
from cluster.settings import Settings, cpu_cores
from serve_app.adapter_files import check_adapter
from serve_app.adapters import Adapters
from serve_app.engine import Delta, EngineLost, EngineState, GenerationRequest, TokenLogprob, ToolCalls
from serve_app.pacing import Pace

log = logging.getLogger(__name__)

SPARE_ADAPTERS = 32
"""Room beyond the champions and challengers there are at start: for those to come, and for releases that are asked for by name."""

ONE_PROCESS_CORES = 4
"""Up to this many cores the model runs inside the engine core's process: a worker process of its own (vLLM's default on CPU, for
thread binding) takes a third of the start-up time and a core that a small machine does not have."""


class LocalNode(CallbackBase):
    """Skips Ray's "download the model to every node" task when the model is a directory: it imports vLLM once more for nothing."""

    async def on_before_node_init(self) -> None:
        self.ctx.run_init_node = not Path(self.llm_config.model_loading_config.model_source).is_dir()


class EngineProcess(VLLMEngine):
    """ray.serve.llm's engine with the executor chosen for small machines (see ONE_PROCESS_CORES)."""

    @property
    def client(self) -> Any:
        """vLLM's asynchronous engine client."""
        if self._engine_client is None:
            raise Unavailable("The engine has not started.")
        return self._engine_client

    def _prepare_engine_config(self, callback_ctx: Any) -> Any:
        arguments, frontend, config = super()._prepare_engine_config(callback_ctx)
        if (
            config.device_config.device_type == "cpu"
            and config.parallel_config.world_size == 1
            and cpu_cores() <= ONE_PROCESS_CORES
        ):
            config.parallel_config.distributed_executor_backend = "uni"
        return arguments, frontend, config


def llm_config(settings: Settings, adapters: int) -> LLMConfig:
    """ray.serve.llm's configuration from ours, with room for ``adapters`` releases and some more."""
    engine, role = settings.engine, settings.models.base
    arguments: dict[str, Any] = {
        "enable_lora": True,
        "max_lora_rank": engine.max_lora_rank,
        "max_loras": engine.max_loras,
        "max_cpu_loras": max(engine.max_loras, engine.max_cpu_loras or adapters + SPARE_ADAPTERS),
        "max_model_len": engine.max_model_len,
        "max_num_seqs": engine.max_num_seqs,
        "dtype": engine.dtype,
        "enforce_eager": engine.enforce_eager,
        "tensor_parallel_size": engine.tensor_parallel_size,
        "disable_log_stats": True,
        # A small model can fill the space between two JSON tokens with spaces until it runs out of tokens, if it may.
        "structured_outputs_config": StructuredOutputsConfig(backend="xgrammar", disable_any_whitespace=True),
    }
    if engine.device == "cpu":
        arguments["kv_cache_memory_bytes"] = int(engine.kv_cache_gib * 2**30)
        arguments["worker_extension_cls"] = "serve_app.cpu_lora.GroupedLora"
    else:
        arguments["gpu_memory_utilization"] = engine.gpu_memory_utilization
    return LLMConfig(
        model_loading_config={"model_id": role.name, "model_source": role.location},
        accelerator_config={"kind": engine.device},
        engine_kwargs=arguments,
        callback_config={"callback_class": LocalNode},
        log_engine_metrics=False,
        experimental_configs={"stream_batching_interval_ms": 0},
    )


class VllmEngine(LLMServer):  # type: ignore[misc]
    """The engine of one replica. Make it with ``await VllmEngine.started(settings)``."""

    @classmethod
    async def started(cls, settings: Settings) -> "VllmEngine":
        """A warm engine. Raises whatever vLLM raises when the model cannot be run."""
        catalog = Catalog(settings.catalog_url)
        config = llm_config(settings, await asyncio.to_thread(_fleet, catalog, settings))
        server: VllmEngine = cls.sync_init(config, engine_cls=EngineProcess)
        server._settings, server._catalog = settings, catalog
        server._artifacts = Artifacts(settings.artifacts_url, settings.home / "cache")
        server._adapters = Adapters(config.engine_kwargs["max_cpu_loras"], server._load, server._unload)
        server._numbers = count(1)
        server._written, server._pace = 0, Pace()
        began = time.monotonic()
        await server.start()
        await server._warm_up()
        log.info("engine ready after %.1f s", time.monotonic() - began)
        return server

    _settings: Settings
    _catalog: Catalog
    _artifacts: Artifacts
    _adapters: Adapters[LoRARequest]
    _numbers: "count[int]"
    _written: int
    _pace: Pace

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        """See ``Engine.generate``."""
        adapter = None if request.adapter is None else await self._adapters.take(request.adapter)
        prompt = {"prompt_token_ids": list(request.prompt_ids)}
        first, tokens = 0.0, 0
        try:
            sampling = sampling_params(request, self._pace.tokens(self._running()))
            # Closed before the adapter is given back: an abandoned answer must have ended when its adapter goes.
            async with aclosing(self.engine.client.generate(prompt, sampling, request.id, lora_request=adapter)) as outputs:
                async for output in outputs:
                    piece = output.outputs[0]
                    first, tokens = first or time.monotonic(), tokens + len(piece.token_ids)
                    if output.finished:
                        self._written += 1
                        self._pace.saw(tokens - 1 if request.stream else 0, time.monotonic() - first)
                    if piece.text or piece.token_ids or output.finished:
                        delta = Delta(piece.text, len(piece.token_ids), piece.finish_reason if output.finished else None)
                        yield delta if request.extra is None else _detailed(delta, piece, request.extra.get("logprobs", 0))
        except (VLLMClientError, ValueError) as error:  # what vLLM finds in a request: a grammar, a token id, a length
            raise InvalidInput(f"The engine cannot use the request: {_reason(error).rstrip('.')}.") from None
        except EngineDeadError:
            raise EngineLost("The engine's process died; ask again.") from None
        except (GracefulHTTPError, VLLMServerError) as error:
            raise Unavailable(f"The engine cannot answer now ({_reason(error).rstrip('.')}); ask again later.") from None
        finally:
            if request.adapter is not None:
                self._adapters.give(request.adapter)

    def _running(self) -> int:
        running: int = self.engine.client.output_processor.get_num_unfinished_requests()
        return running

    async def tool_calls(self, text: str, tools: Sequence[dict[str, Any]]) -> ToolCalls:
        """See ``Engine.tool_calls``; the parser is the one that ``engine.tool_parser`` names."""
        if self._settings.engine.tool_parser is None:
            return ToolCalls(text, ())
        tokenizer = self.engine.client.get_tokenizer()
        return await asyncio.to_thread(tool_calls, self._settings.engine.tool_parser, tokenizer, text, tools)

    async def state(self) -> EngineState:
        """See ``Engine.state``."""
        return EngineState(self._running(), self._written, self._adapters.names, tuple(self._adapters.quarantined.items()))

    async def load(self, adapter: str) -> None:
        """Load the adapter and answer one token with it."""
        request = GenerationRequest(id=new_id("load"), prompt_ids=[0], adapter=adapter, max_tokens=1, stream=False)
        async for _ in self.generate(request):
            pass

    async def _warm_up(self) -> None:
        """A batch of the size that traffic brings, so that the first user does not pay for first-time allocations."""

        async def one(number: int) -> None:
            prompt = [number % 7] * 64
            async for _ in self.generate(GenerationRequest(new_id("warm"), prompt, max_tokens=4, stream=False)):
                pass

        await asyncio.gather(*(one(number) for number in range(8)))

    async def _load(self, name: str) -> LoRARequest:
        directory = await asyncio.to_thread(self._checked_directory, name)
        request = LoRARequest(lora_name=name, lora_int_id=next(self._numbers), lora_path=str(directory))
        try:
            await self.engine.client.add_lora(request)
        except Exception as error:  # whatever vLLM says of an adapter concerns that adapter
            await self._unload(request)  # it may have got a place before it failed
            raise InvalidInput(f"The adapter of release '{name}' cannot be loaded: {_reason(error)}.") from None
        return request

    async def _unload(self, adapter: LoRARequest) -> None:
        await self.engine.client.remove_lora(adapter.lora_int_id)

    def _checked_directory(self, name: str) -> Path:
        with self._catalog.reading() as work:
            release = releases.get(work, name)
        directory = self._artifacts.fetch(release.adapter_uri, release.adapter_digest)
        check_adapter(directory, release, base_digest(self._settings.models.base), self._settings.engine.max_lora_rank)
        return directory


def _fleet(catalog: Catalog, settings: Settings) -> int:
    """How many releases of this base an alias points to."""
    digest = base_digest(settings.models.base)
    with catalog.reading() as work:
        aliased = {f"{agent}@{version}" for (agent, _), version in releases.all_aliases(work).items()}
        return sum(one.base_digest == digest and one.ref in aliased for one in releases.everything(work))


def sampling_params(request: GenerationRequest, together: int = 1) -> SamplingParams:
    """vLLM's words for a request, with ``together`` tokens in a delta. Raises VLLMValidationError."""
    extra = dict(request.extra or {})
    if "structured_outputs" in extra:
        extra["structured_outputs"] = StructuredOutputsParams(**extra["structured_outputs"])
    return SamplingParams(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        stop=list(request.stop) or None,
        seed=request.seed,
        output_kind=RequestOutputKind.DELTA if request.stream else RequestOutputKind.FINAL_ONLY,
        stream_interval=together,
        skip_clone=True,  # made for this request alone
        **extra,
    )


def _detailed(delta: Delta, piece: Any, most: int) -> Delta:
    """The delta of a request that asked for more. vLLM's ends of its own making are errors here: no client knows them."""
    if delta.finish_reason not in (None, "stop", "length"):
        raise Unavailable(f"The engine gave the answer up ({delta.finish_reason}); ask again.")
    if not piece.logprobs:
        return delta
    found = []
    for token_id, at in zip(piece.token_ids, piece.logprobs, strict=False):
        # Minus infinity is no JSON.
        likeliest = sorted((one for one in at.values() if one.rank is not None), key=lambda one: one.rank)
        top = tuple((one.decoded_token or "", max(one.logprob, -9999.0)) for one in likeliest[:most])
        chosen = at[token_id]
        found.append(TokenLogprob(chosen.decoded_token or "", max(chosen.logprob, -9999.0), top))
    return delta._replace(logprobs=tuple(found))


def tool_calls(parser: str, tokenizer: Any, text: str, tools: Sequence[dict[str, Any]]) -> ToolCalls:
    """The calls that vLLM's parser of this name finds. Raises Unavailable when there is no such parser."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.tool_parsers import ToolParserManager

    try:
        kind = ToolParserManager.get_tool_parser(parser)
    except KeyError:
        raise Unavailable(f"vLLM has no tool parser '{parser}'; set engine.tool_parser to one of its names.") from None
    asked = ChatCompletionRequest(model="", messages=[{"role": "user", "content": ""}], tools=list(tools))
    found = kind(tokenizer, asked.tools).extract_tool_calls(text, asked)
    return ToolCalls(found.content or "", tuple((call.function.name, call.function.arguments) for call in found.tool_calls))


def _reason(error: BaseException) -> str:
    if isinstance(error, TreadleError):
        return error.message
    text = str(error).strip().splitlines()
    return text[0].removeprefix("Call to add_lora method failed: ") if text else type(error).__name__
