"""The application factory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from lepton import __version__
from lepton.errors import LeptonError, RequestError
from lepton.server import health, openai
from lepton.server.context import ServerContext
from lepton.server.errors import as_api_error
from lepton.server.middleware import Gate, HostGuard, RequestScope
from lepton.server.pages import add_pages
from lepton.server.record import record_of
from lepton.server.settings import ServerSettings

if TYPE_CHECKING:
    from lepton.engine import AsyncEncoder, AsyncEngine
    from lepton.server.served_run import ServedRun

    EngineLoader = Callable[[], AsyncEngine | None]
    EncodersLoader = Callable[[], Mapping[str, AsyncEncoder]]
    RunsLoader = Callable[[], Mapping[str, ServedRun]]

_log = logging.getLogger("lepton.server")

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")


def create_app(
    engine: AsyncEngine | EngineLoader | None,
    settings: ServerSettings | None = None,
    *,
    encoders: EncodersLoader | None = None,
    runs: RunsLoader | None = None,
) -> FastAPI:
    """An ASGI application over ``engine``, which it starts and shuts down, ``encoders``, ``runs``.

    A function that makes the engine, or the encoders or runs by the names that clients give, is
    called in a thread once the application runs; until it has returned, requests get 503 and
    ``/readyz`` is red. Raises ConfigurationError when the key file cannot be used.
    """
    context = ServerContext(settings or ServerSettings())
    if not callable(engine) and encoders is None and runs is None:
        context.open(engine)
    app = FastAPI(
        title="Lepton",
        version=__version__,
        lifespan=_lifespan(engine, encoders, runs),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    app.include_router(openai.routes())
    app.include_router(health.routes())
    add_pages(app)
    for kind in (LeptonError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _answer_error)
    _add_middleware(app, context)
    return app


def _lifespan(
    engine: AsyncEngine | EngineLoader | None,
    encoders: EncodersLoader | None,
    runs: RunsLoader | None,
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        context: ServerContext = app.state.context
        loading = asyncio.create_task(_load(engine, encoders, runs, context))
        try:
            yield
        finally:
            loading.cancel()  # What is being loaded nobody will use.
            await asyncio.gather(loading, return_exceptions=True)
            await asyncio.to_thread(context.close)

    return lifespan


async def _load(
    engine: AsyncEngine | EngineLoader | None,
    encoders: EncodersLoader | None,
    runs: RunsLoader | None,
    context: ServerContext,
) -> None:
    if callable(engine) or encoders is not None or runs is not None:
        try:
            if callable(engine):
                engine = await context.load(engine)
            found = {} if encoders is None else await context.load(encoders)
            served = {} if runs is None else await context.load(runs)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # A panic of a native library is no Exception.
            context.failure = error
            return
        context.open(engine, found, served)
    if engine is not None and not engine.alive:
        engine.start()


async def _answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        error = RequestError("The request is not valid.")
    answer = as_api_error(error)
    record = record_of(request)
    record.error_code = answer.code
    if answer.status == 500:
        fields = {"request_id": record.id}
        _log.error("request failed", exc_info=error, extra={"fields": fields})
    return answer.response()


def _add_middleware(app: FastAPI, context: ServerContext) -> None:
    settings = context.settings
    # The last one added is the outermost.
    app.add_middleware(Gate, admission=context.admission, prefixes=openai.PREFIXES)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-Id", "X-Request-Timeout"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    if settings.local and not context.admission.needs_key:
        allowed = {*LOCAL_HOSTS, settings.host, *settings.allowed_hosts}
        app.add_middleware(HostGuard, allowed=allowed)
    app.add_middleware(RequestScope, metrics=context.metrics, tracing=context.tracing)
