"""The Router deployment's inside: its parts, its keys, and its HTTP application. Knows nothing of Ray."""

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog, users
from cluster.domain.agents import GUARD, ROUTER
from cluster.domain.guard_events import GuardEvent
from cluster.domain.releases import Release
from cluster.domain.users import ApiKey, key_hash
from cluster.embedding import Embedder
from cluster.errors import TreadleError, Unauthenticated
from cluster.guarding import classifier
from cluster.guarding.checks import Guard
from cluster.settings import ROOT, Settings
from serve_app.alerts import Alerts
from serve_app.answering import Answering
from serve_app.engine import Engine
from serve_app.guard import GuardPost
from serve_app.recording import Recorder
from serve_app.releases import LiveReleases, Speaker
from serve_app.retriever import Retriever
from serve_app.router import RouterHead

KEY_SECONDS = 1.0
"""How long a key that was found is trusted without another look: revoking takes effect within it."""

CLOSING_SECONDS = 10.0
"""How long the last events of the guard may take to be written when a gateway closes."""

TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error"}


class KeyRing:
    """API keys of the catalog. Only keys that exist are remembered, so that a new one works at once."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._found: dict[str, tuple[float, ApiKey]] = {}

    async def owner(self, header: str | None) -> ApiKey:
        """Whose request this is. Raises Unauthenticated."""
        scheme, _, text = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise Unauthenticated("No API key was sent; send 'Authorization: Bearer KEY' (treadle keys create makes one).")
        digest = key_hash(text.strip())
        until, key = self._found.get(digest, (0.0, None))
        if key is not None and time.monotonic() < until:
            return key
        key = await asyncio.to_thread(self._look, digest)
        if key is None:
            self._found.pop(digest, None)
            raise Unauthenticated("The API key is not known or was revoked; treadle keys create makes one.")
        self._found[digest] = (time.monotonic() + KEY_SECONDS, key)
        return key

    def _look(self, digest: str) -> ApiKey | None:
        with self._catalog.reading() as work:
            return users.find_key(work, digest)


class Gateway:
    """Everything that one Router replica holds. Make it with ``await Gateway.started(settings, engine)``."""

    def __init__(self, settings: Settings, engine: Engine, tokenizer: Any, embedder: Embedder) -> None:
        self.settings = settings
        self.catalog = Catalog(settings.catalog_url)
        self.keys = KeyRing(self.catalog)
        self.artifacts = Artifacts(settings.artifacts_url, settings.home / "cache")
        self._embedder_name = embedder.name
        threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="search")
        self.retriever = Retriever(self.catalog, self.artifacts, threads)
        self.recorder, self.alerts = Recorder(self.catalog), Alerts(settings.alerts)
        adopt = {ROUTER: self._adopt_head, GUARD: self._adopt_guard}
        self.live = LiveReleases(self.catalog, self._prepare, adopt, settings.models.base.name)
        self.answering = Answering(
            engine=engine,
            live=self.live,
            guard=GuardPost(Guard.read(ROOT / settings.router.guard, settings.router.guard_policy), self._note),
            retriever=self.retriever,
            recorder=self.recorder,
            embedder=embedder,
            tokenizer=tokenizer,
            threads=threads,
            base_name=settings.models.base.name,
            max_model_len=settings.engine.max_model_len,
        )
        self._follower: asyncio.Task[None] | None = None
        self.ready = False

    @classmethod
    async def started(cls, settings: Settings, engine: Engine) -> "Gateway":
        """A gateway whose champions are loaded and that follows the catalog."""
        tokenizer, embedder = await asyncio.gather(
            asyncio.to_thread(open_tokenizer, settings.models.base.location),
            asyncio.to_thread(Embedder, settings.models.embedder.location, 1),
        )
        await asyncio.to_thread(embedder.embed, ["warm"])
        gateway = cls(settings, engine, tokenizer, embedder)
        await gateway.follow()
        return gateway

    async def follow(self) -> None:
        """Look into the catalog once, then keep following it."""
        await self.live.look()
        self._follower = asyncio.create_task(self.live.follow(self.settings.router.follow_seconds))
        self.ready = True

    async def close(self) -> None:
        """Stop following."""
        if self._follower is not None:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.recorder.drained(), CLOSING_SECONDS)
        await self.alerts.close()
        self.catalog.close()

    def _note(self, event: GuardEvent) -> None:
        self.recorder.note(event)
        self.alerts.note(event)

    async def _prepare(self, speaker: Speaker) -> None:
        opening = self.retriever.open(speaker.indexes)
        if speaker.adapter is None:
            await opening
        else:
            await asyncio.gather(opening, self.answering.engine.load(speaker.adapter))

    async def _adopt_head(self, release: Release | None) -> None:
        self.answering.head = None if release is None else await asyncio.to_thread(self._read_head, release)

    async def _adopt_guard(self, release: Release | None) -> None:
        self.answering.guard.adopt(None if release is None else await asyncio.to_thread(self._read_guard, release))

    def _read_guard(self, release: Release) -> classifier.Classifier:
        return classifier.load(self.artifacts.fetch(release.adapter_uri, release.adapter_digest), release.ref)

    def _read_head(self, release: Release) -> RouterHead:
        directory = self.artifacts.fetch(release.adapter_uri, release.adapter_digest)
        return RouterHead(directory, release.ref, self._embedder_name)


def open_tokenizer(location: str) -> Any:
    """The base model's transformers tokenizer, from disk or the hub."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(location)


def error_body(status: int, message: str) -> dict[str, Any]:
    """An error as OpenAI's clients expect it."""
    return {"error": {"message": message, "type": TYPES.get(status, "server_error"), "param": None, "code": status}}


def _sentence(error: RequestValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    reason = str(first["msg"]).removeprefix("Value error, ")
    return f"'{place}' cannot be used: {reason[:1].lower() + reason[1:]}."


def build_app(gateway: Gateway) -> FastAPI:
    """The HTTP application over a gateway."""
    from serve_app.routes import chat, health, models, signals, turns

    app = FastAPI(title="Treadle", version="1", docs_url=None, redoc_url=None)
    app.state.gateway = gateway
    for part in (health, chat, models, signals, turns):
        app.include_router(part.router)

    @app.exception_handler(TreadleError)
    async def _known(_: Request, error: TreadleError) -> JSONResponse:
        return JSONResponse(error_body(error.status_code, error.message), error.status_code)

    @app.exception_handler(RequestValidationError)
    async def _unusable(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse(error_body(400, _sentence(error)), 400)

    @app.exception_handler(HTTPException)
    async def _plain(request: Request, error: HTTPException) -> JSONResponse:
        known = {404: f"There is no {request.url.path}.", 405: f"{request.url.path} does not take {request.method}."}
        return JSONResponse(error_body(error.status_code, known.get(error.status_code, str(error.detail))), error.status_code)

    return app
