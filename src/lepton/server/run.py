"""The process: its socket, uvicorn, and the way it ends."""

from __future__ import annotations

import atexit
import errno
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

from lepton.errors import ConfigurationError
from lepton.security import load_keys
from lepton.server.app import create_app
from lepton.server.connections import SEND_BUFFER_BYTES, bounded_protocol
from lepton.server.context import ServerContext
from lepton.server.settings import ServerSettings
from lepton.telemetry import log_event

if TYPE_CHECKING:
    from lepton.engine import AsyncEngine
    from lepton.server.app import EncodersLoader, EngineLoader, RunsLoader

_log = logging.getLogger("lepton.server")

BACKLOG = 2048
"""Connections that may wait to be accepted."""
LAST_WORDS_SECONDS = 5
"""Time to send the last bytes after the grace period."""
FLUSH_SECONDS = 1.0
KILLED = 128
"""Shells add it to the number of the signal that ended a process."""


def bind(settings: ServerSettings) -> socket.socket:
    """Take the address before a model is loaded; connections are refused until `serve` listens.

    Raises ConfigurationError when the address is in use, is not this machine's, or would let
    everyone on the network in, and when the key file cannot be used.
    """
    _check_access(settings)
    family, address = _resolve(settings)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigurationError(_explain(error, settings)) from error
    return listener


def serve(
    engine: AsyncEngine | EngineLoader | None,
    settings: ServerSettings | None = None,
    *,
    encoders: EncodersLoader | None = None,
    runs: RunsLoader | None = None,
    listener: socket.socket | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, finish what is in progress, shut the engine down.

    A second signal ends the process at once, with the status of one that it killed. What hangs is
    not waited for: a step for a few seconds after the grace period, a model being loaded not at
    all; the process then leaves their threads behind.

    ``engine`` may be a function that makes one or none, and ``encoders`` and ``runs`` are ones that
    make encoders and load trained runs by the names that clients give; they are called while
    ``/livez``, ``/readyz`` and ``/metrics`` answer already. ``on_ready`` gets the URL when requests
    are taken. Raises ConfigurationError as `bind` does, and what those functions raise.
    """
    settings = settings or ServerSettings()
    listener = listener or bind(settings)
    app = create_app(engine, settings, encoders=encoders, runs=runs)
    context: ServerContext = app.state.context
    try:
        listener.listen(BACKLOG)  # Here, as uvloop waits for ever where this fails.
        DrainingServer(app, listener, on_ready).run(sockets=[listener])
    except OSError as error:
        raise ConfigurationError(_explain(error, settings)) from error
    finally:
        listener.close()
        context.close()
        if context.busy:
            atexit.register(_leave, context)
    if context.failure is not None:
        raise context.failure


class DrainingServer(uvicorn.Server):
    """A uvicorn server that keeps answering, with 503, while requests in progress finish."""

    def __init__(
        self,
        app: FastAPI,
        listener: socket.socket,
        on_ready: Callable[[str], None] | None = None,
    ) -> None:
        self._context: ServerContext = app.state.context
        settings = self._context.settings
        self._url = _url(settings, listener)
        self._on_ready = on_ready
        self._announced = False
        super().__init__(
            uvicorn.Config(
                app,
                http=bounded_protocol(settings),
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                lifespan="on",
                timeout_keep_alive=settings.keep_alive_seconds,
                timeout_graceful_shutdown=LAST_WORDS_SECONDS,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """First signal: drain. Second: end the process, whatever it is doing."""
        if self._context.admission.draining:
            _end_process(KILLED + sig)
        self.drain()

    def drain(self) -> None:
        """Refuse new requests and end when the others have, or the grace period has passed."""
        self._context.admission.drain(self._context.settings.drain_seconds)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell so."""
        await super().startup(sockets)
        if self.started:
            log_event(_log, logging.INFO, "listening", url=self._url)
            self._announce_once()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to exit."""
        self._announce_once()
        if self._context.admission.drained or self._context.failure is not None:
            self.should_exit = True
        return await super().on_tick(counter)

    def _announce_once(self) -> None:
        """Tell that requests are taken, as soon as they are."""
        context = self._context
        if self._announced or not (context.loaded or context.encoders or context.runs):
            return
        self._announced = True
        log_event(
            _log,
            logging.INFO,
            "serving",
            url=self._url,
            model=context.model_name,
            context_length=context.engine.context_length if context.loaded else None,
            encoders=list(context.encoders),
            runs=[run.current.name for run in context.runs.values()],
            api_keys=context.admission.needs_key,
        )
        if self._on_ready:
            self._on_ready(self._url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what outlived the grace period with an error to its client, then close."""
        left = self._context.admission.in_progress
        log_event(_log, logging.INFO, "stopping", cancelled_requests=left)
        self.drain()
        if self._context.loaded and self._context.engine.alive:
            await self._context.engine.drain(0)
        await super().shutdown(sockets)


def _leave(context: ServerContext) -> None:
    """At the interpreter's exit: threads that come back from native code would crash in it."""
    if context.busy:
        _end_process(0)


def _end_process(status: int) -> None:
    """End without any clean-up, when what was logged and printed is out or has had its time."""
    flushing = threading.Thread(target=_flush, daemon=True)
    flushing.start()
    flushing.join(FLUSH_SECONDS)
    os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    logging.shutdown()


def _check_access(settings: ServerSettings) -> None:
    if settings.keys_file is not None:
        load_keys(settings.keys_file)
    elif not settings.local:
        if not settings.allow_anonymous:
            raise ConfigurationError(
                f"{settings.host} can be reached from other machines, and no API keys are set: "
                "give a key file, listen on 127.0.0.1, or allow anonymous access explicitly"
            )
        _log.warning(
            "everyone who can reach %s:%d can use this server: it has no API keys",
            settings.host,
            settings.port,
        )


def _resolve(settings: ServerSettings) -> tuple[socket.AddressFamily, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(
            f"the host {settings.host!r} cannot be resolved: {error}"
        ) from error
    family, _, _, _, address = found[0]
    return family, (str(address[0]), int(address[1]))


def _explain(error: OSError, settings: ServerSettings) -> str:
    where = f"{settings.host}:{settings.port}"
    reasons = {
        errno.EADDRINUSE: "the port is in use; stop the other program or choose another port",
        errno.EACCES: "this user may not open the port; choose one of 1024 or above",
        errno.EADDRNOTAVAIL: "this machine does not have the address",
    }
    reason = reasons.get(error.errno or 0, os.strerror(error.errno or 0))
    return f"cannot listen on {where}: {reason}"


def _url(settings: ServerSettings, listener: socket.socket) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{listener.getsockname()[1]}"
