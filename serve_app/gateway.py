"""The Router deployment's inside: its parts, and its HTTP application. Knows nothing of Ray."""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from cluster.artifacts import Artifacts
from cluster.catalog import Catalog
from cluster.domain.agents import GUARD, ROUTER
from cluster.domain.guard_events import GuardEvent
from cluster.domain.releases import Release
from cluster.embedding import Embedder
from cluster.errors import TooMany, TreadleError, Unauthenticated
from cluster.guarding import classifier
from cluster.guarding.checks import Guard
from cluster.settings import ROOT, Settings
from serve_app.alerts import Alerts
from serve_app.answering import Answering
from serve_app.bases import Bases, open_bases
from serve_app.bearer_tokens import BearerTokens
from serve_app.books import Books
from serve_app.engine import Engine
from serve_app.experiment_judge import ExperimentJudge
from serve_app.experiments import Experiments
from serve_app.finalist import Finalist
from serve_app.following import Following
from serve_app.guard import GuardPost
from serve_app.identity import Identities, Identity
from serve_app.limits import Limits
from serve_app.meters import MeterBook, Meters
from serve_app.recording import Recorder
from serve_app.references import References, asked_for
from serve_app.releases import LiveReleases, Speaker
from serve_app.retriever import Retriever
from serve_app.router import RouterHead
from serve_app.validator import Validator

BROKE_OFF = "The answer broke off; ask again."
CLOSING_SECONDS = 10.0
"""How long the last events of the guard may take to be written when a gateway closes."""

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


class Gateway:
    """Everything that one Router replica holds. Make it with ``await Gateway.started(settings, engines)``."""

    def __init__(self, settings: Settings, bases: Bases, embedder: Embedder) -> None:
        self.settings, self.bases = settings, bases
        self.catalog = Catalog(settings.catalog_url)
        self.identities = Identities(self.catalog, BearerTokens(settings.router.jwt) if settings.router.jwt else None)
        self.limits = Limits()
        self.books = Books(self.catalog, self.limits, self.identities)
        self.artifacts = Artifacts(settings.artifacts_url, settings.home / "cache")
        self.meters = Meters()
        self.meter_book = MeterBook(self.catalog, self.meters)
        self._embedder_name = embedder.name
        threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="search")
        self.retriever = Retriever(self.catalog, self.artifacts, threads)
        self.references = References(self.catalog, embedder)
        self.recorder, self.alerts = Recorder(self.catalog), Alerts(settings.alerts)
        adopt = {ROUTER: self._adopt_head, GUARD: self._adopt_guard}
        self.live = LiveReleases(self.catalog, bases.names)
        self.following = Following(self.live, self.catalog, self._prepare, adopt, self.retriever)
        self.judge = ExperimentJudge(settings, self.catalog, self.artifacts, self.live)
        self.answering = Answering(
            bases=bases,
            live=self.live,
            guard=GuardPost(Guard.read(ROOT / settings.router.guard, settings.router.guard_policy), self._note),
            retriever=self.retriever,
            recorder=self.recorder,
            embedder=embedder,
            threads=threads,
            meters=self.meters,
            spent=self.spent,
            experiments=Experiments(self.catalog, self.live, self.meters),
            validator=Validator(self.references),
            finalist=Finalist(settings, bases),
        )
        self._tasks: list[asyncio.Task[None]] = []
        self.ready = False

    @classmethod
    async def started(cls, settings: Settings, engines: Mapping[str, Engine]) -> "Gateway":
        """A gateway whose champions are loaded and that follows the catalog. ``engines``: by the names of their bases."""
        bases, embedder = await asyncio.gather(
            asyncio.to_thread(open_bases, settings, engines),
            asyncio.to_thread(Embedder, settings.models.embedder.location, 1, quick=True),
        )
        await asyncio.to_thread(embedder.embed, ["warm"])
        gateway = cls(settings, bases, embedder)
        await gateway.follow()
        return gateway

    async def follow(self) -> None:
        """Look into the catalog once, then keep following it."""
        await self.following.look()
        self._tasks = [
            asyncio.create_task(self.following.follow(self.settings.router.follow_seconds)),
            asyncio.create_task(self.books.keep()),
            asyncio.create_task(self.judge.keep()),
        ]
        self.meter_book.follow()
        self.ready = True

    async def close(self) -> None:
        """Stop following, and write down what waits."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.answering.experiments.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.recorder.drained(), CLOSING_SECONDS)
        with contextlib.suppress(TreadleError):
            await self.books.write()
        await self.meter_book.close()
        await self.alerts.close()
        self.references.close()
        await self.answering.finalist.close()
        self.catalog.close()

    def admit(self, identity: Identity, asks: bool) -> None:
        """Count a request, and one that ``asks`` a model against the day's tokens. Raises TooMany."""
        limits = self.settings.router.limits.get(identity.role)
        if limits is None:
            return
        if asks and limits.tokens_per_day is not None:
            self.limits.check(f"tokens/{identity.user}", "day", limits.tokens_per_day, "tokens")
        if limits.requests_per_minute is not None:
            self.limits.take(f"requests/{identity.user}", "minute", limits.requests_per_minute, "requests")

    def spent(self, user: str, tokens: int) -> None:
        """Count tokens of prompts and answers against the user's day."""
        if self.settings.router.limits:
            self.limits.add(f"tokens/{user}", "day", tokens)

    def _note(self, event: GuardEvent) -> None:
        self.recorder.note(event)
        self.alerts.note(event)

    async def _prepare(self, speaker: Speaker) -> None:
        if asked_for(speaker.card.rules):
            await self.references.open(speaker.card.name)
        opening = self.retriever.open(speaker.indexes)
        if speaker.adapter is None:
            await opening
        else:
            await asyncio.gather(opening, self.bases.of(speaker.release).engine.load(speaker.adapter))

    async def _adopt_head(self, release: Release | None) -> None:
        self.answering.head = None if release is None else await asyncio.to_thread(self._read_head, release)

    async def _adopt_guard(self, release: Release | None) -> None:
        self.answering.guard.adopt(None if release is None else await asyncio.to_thread(self._read_guard, release))

    def _read_guard(self, release: Release) -> classifier.Classifier:
        return classifier.load(self.artifacts.fetch(release.adapter_uri, release.adapter_digest), release.ref)

    def _read_head(self, release: Release) -> RouterHead:
        directory = self.artifacts.fetch(release.adapter_uri, release.adapter_digest)
        return RouterHead(directory, release.ref, self._embedder_name)


def error_body(status: int, message: str) -> dict[str, Any]:
    """An error as OpenAI's clients expect it."""
    return {
        "error": {"message": whole_characters(message), "type": TYPES.get(status, "server_error"), "param": None, "code": status}
    }


def error_event(error: TreadleError | None) -> str:
    """The server-sent event that ends a stream which broke: its status line is out. None: nobody foresaw the error."""
    status, message = (error.status_code, error.message) if error else (500, BROKE_OFF)
    return f"data: {json.dumps(error_body(status, message))}\n\n"


def whole_characters(text: str) -> str:
    """Without the halves of characters that a client may have sent: they are no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _headers(error: TreadleError) -> dict[str, str]:
    if isinstance(error, TooMany):
        return {"Retry-After": str(error.retry_after)}
    return {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthenticated) else {}


def _refusal(request: Request, status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error in the words of the protocol that the path belongs to."""
    ollama = request.url.path.startswith("/api/")
    body = {"error": whole_characters(message)} if ollama else error_body(status, message)
    return JSONResponse(body, status, headers)


def _sentence(error: RequestValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    reason = str(first["msg"]).removeprefix("Value error, ")
    return f"'{place}' cannot be used: {reason[:1].lower() + reason[1:]}."


def build_app(gateway: Gateway) -> FastAPI:
    """The HTTP application over a gateway."""
    from serve_app.routes import (
        agents,
        audit,
        auth,
        chat,
        completions,
        embeddings,
        experiments,
        health,
        keys,
        metrics,
        models,
        ollama,
        settings,
        signals,
        tokenize,
        turns,
        users,
        voice,
    )

    app = FastAPI(title="Treadle", version="1", docs_url=None, redoc_url=None)
    app.state.gateway = gateway
    for part in (health, metrics, chat, completions, embeddings, tokenize, models, signals, turns, ollama, voice):
        app.include_router(part.router)
    for part in (auth, users, keys, audit, agents, experiments, settings):
        app.include_router(part.router)

    @app.exception_handler(TreadleError)
    async def _known(request: Request, error: TreadleError) -> JSONResponse:
        return _refusal(request, error.status_code, error.message, _headers(error))

    @app.exception_handler(RequestValidationError)
    async def _unusable(request: Request, error: RequestValidationError) -> JSONResponse:
        return _refusal(request, 400, _sentence(error))

    @app.exception_handler(UnicodeEncodeError)
    async def _no_text(_: Request, error: UnicodeEncodeError) -> JSONResponse:
        sentence = f"The request holds half a surrogate pair ({error.object[error.start]!a}), which is no text; send UTF-8."
        return JSONResponse(error_body(400, sentence), 400)

    @app.exception_handler(HTTPException)
    async def _plain(request: Request, error: HTTPException) -> JSONResponse:
        known = {404: f"There is no {request.url.path}.", 405: f"{request.url.path} does not take {request.method}."}
        return _refusal(request, error.status_code, known.get(error.status_code, str(error.detail)))

    @app.exception_handler(Exception)
    async def _broken(request: Request, _: Exception) -> JSONResponse:  # Starlette logs it and goes on raising it
        return _refusal(request, 500, "Something broke while answering; ask again, and look into the service's log.")

    return app
