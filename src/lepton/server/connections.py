"""Connections that hold no more memory than they must, and not for ever."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lepton.server.settings import ServerSettings
from lepton.telemetry import log_event

_log = logging.getLogger("lepton.server")

SEND_BUFFER_BYTES = 256 * 1024
"""Of the kernel, for each connection; left alone, it grows to megabytes for a slow reader."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 that gives up on clients that do not read, or never ask.

    A client that leaves its connection full for `ServerSettings.write_seconds` is cut off, which
    cancels its request; so is one that has sent no whole request head in `body_seconds`.
    """

    settings: ServerSettings
    """Set by `bounded_protocol`."""
    _awaits_head: asyncio.TimerHandle | None = None
    _awaits_reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A new connection, which has some time to send the head of a request."""
        super().connection_made(transport)
        self._awaits_head = self._cut_off_after(self.settings.body_seconds, "no request")

    def on_headers_complete(self) -> None:
        """The head of a request has arrived."""
        _cancel(self._awaits_head)
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered."""
        super().pause_writing()
        self._awaits_reader = self._cut_off_after(self.settings.write_seconds, "slow reader")

    def resume_writing(self) -> None:
        """The client has read what there was."""
        super().resume_writing()
        _cancel(self._awaits_reader)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever brought it about."""
        _cancel(self._awaits_head)
        _cancel(self._awaits_reader)
        super().connection_lost(exc)

    def _cut_off_after(self, seconds: float, reason: str) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, self._cut_off, reason)

    def _cut_off(self, reason: str) -> None:
        log_event(_log, logging.INFO, "connection cut off", reason=reason)
        self.transport.abort()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def bounded_protocol(settings: ServerSettings) -> type[BoundedProtocol]:
    """The protocol with a server's settings, as uvicorn wants it: a class."""
    return type("BoundedProtocol", (BoundedProtocol,), {"settings": settings})
