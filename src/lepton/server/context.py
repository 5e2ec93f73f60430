"""What every route needs, made once per application."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from starlette.requests import Request

from lepton import __version__
from lepton.errors import RequestError, UnavailableError
from lepton.server.admission import Admission
from lepton.server.metrics import Metrics
from lepton.server.settings import ServerSettings
from lepton.server.text import TextWorker
from lepton.telemetry.tracing import Tracing, open_tracing

if TYPE_CHECKING:
    from lepton.engine import AsyncEncoder, AsyncEngine
    from lepton.server.served_run import ServedRun

_log = logging.getLogger("lepton.server")

LOADING = "The model is still being loaded."
CLOSE_SECONDS = 8.0
"""More than an engine takes to find that its step hangs."""

Loaded = TypeVar("Loaded")


class ServerContext:
    """One application's settings and instruments, and its engine once that is loaded."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.admission = Admission(settings)
        self.admission.close(LOADING)
        self.metrics = Metrics()
        self.tracing: Tracing | None = None
        if settings.otlp_endpoint is not None:
            self.tracing = open_tracing(settings.otlp_endpoint, __version__)
        self.created = int(time.time())
        self.failure: BaseException | None = None
        """Why there will never be an engine; the process is to end."""
        self.encoders: Mapping[str, AsyncEncoder] = {}
        """By the names that clients give."""
        self.runs: Mapping[str, ServedRun] = {}
        """Trained runs, which classify, by the names that clients give."""
        self._engine: AsyncEngine | None = None
        self._text: TextWorker | None = None
        self._closed = False
        self._threads: list[threading.Thread] = []
        """That load or close something; daemons, so that the process may end before they do."""

    async def load(self, loader: Callable[[], Loaded]) -> Loaded:
        """What a function returns that runs in a thread; when cancelled, the thread is left."""
        outcome: Future[Loaded] = Future()

        def run() -> None:
            try:
                outcome.set_result(loader())
            except BaseException as error:
                outcome.set_exception(error)

        outcome.set_running_or_notify_cancel()
        self._start(run, "lepton-loading")
        return await asyncio.wrap_future(outcome)

    def open(
        self,
        engine: AsyncEngine | None,
        encoders: Mapping[str, AsyncEncoder] | None = None,
        runs: Mapping[str, ServedRun] | None = None,
    ) -> None:
        """Take requests for ``engine``, ``encoders`` and ``runs``, any of which may be missing."""
        self.runs = runs or {}
        self._engine = engine
        self.encoders = encoders or {}
        if engine is not None:
            self._text = TextWorker(engine.model)
            self.metrics.attach(engine, self.model_name)
        if encoders:
            self.metrics.attach_encoders(encoders)
        self.admission.open()

    def close(self) -> None:
        """Shut everything down, in CLOSE_SECONDS at most. May be called twice."""
        if self._closed:
            return
        self._closed = True
        closers = [encoder.close for encoder in self.encoders.values()]
        closers += [run.close for run in self.runs.values()]
        if self._engine is not None:
            closers.append(self._engine.shutdown)
        if self._text is not None:
            closers.append(self._text.close)
        if self.tracing is not None:
            closers.append(self.tracing.close)
        threads = [self._start(closer, "lepton-closing") for closer in closers]
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self.busy:
            _log.error("the server ends while a model is still being loaded, computed or released")

    @property
    def busy(self) -> bool:
        """Whether threads are left that nobody waits for."""
        stuck = self._closed and self._engine is not None and self._engine.alive
        return stuck or any(thread.is_alive() for thread in self._threads)

    def _start(self, target: Callable[[], object], name: str) -> threading.Thread:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    @property
    def loaded(self) -> bool:
        """Whether there is an engine."""
        return self._engine is not None

    @property
    def encoders_only(self) -> bool:
        """Whether this server has encoders and nothing that generates."""
        return self._engine is None and bool(self.encoders)

    @property
    def runs_only(self) -> bool:
        """Whether this server has trained runs and nothing else."""
        return self._engine is None and not self.encoders and bool(self.runs)

    @property
    def engine(self) -> AsyncEngine:
        """The engine; UnavailableError while it is loaded, RequestError when there is none."""
        if self.encoders_only:
            raise RequestError(
                f"This server embeds and ranks with {', '.join(self.encoders)}; it generates no "
                "text.",
                param="model",
                code="model_not_found",
            )
        if self.runs_only:
            raise RequestError(
                f"This server classifies with {', '.join(self.runs)}; it generates no text.",
                param="model",
                code="model_not_found",
            )
        if self._engine is None:
            raise UnavailableError(LOADING)
        return self._engine

    @property
    def text(self) -> TextWorker:
        """Tokenizer and chat template of the model; raises as ``engine`` does."""
        if self._text is None:
            self.engine  # noqa: B018
            raise UnavailableError(LOADING)
        return self._text

    @property
    def model_name(self) -> str:
        """What clients call the model, or the first of the encoders or runs."""
        if self.encoders_only:
            return next(iter(self.encoders))
        if self.runs_only:
            return next(iter(self.runs))
        return self.settings.model_name or self.engine.model.name

    def check_model(self, name: str | None) -> None:
        """Raise RequestError ``model_not_found`` unless ``name`` is served here (or None)."""
        if name is not None and name != self.model_name:
            shown = name if len(name) <= 80 else name[:80] + "…"
            raise RequestError(
                f"The model {shown!r} does not exist here; this server has {self.model_name!r}.",
                param="model",
                code="model_not_found",
            )


def context_of(request: Request) -> ServerContext:
    """The context of the application that handles ``request``."""
    context: ServerContext = request.app.state.context
    return context
