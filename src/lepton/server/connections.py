"""Connections that hold no more memory than they must, and not for ever."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import sys
import termios
from collections import deque
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lepton.server.errors import ApiError
from lepton.server.settings import ServerSettings
from lepton.telemetry import log_event

_log = logging.getLogger("lepton.server")

SEND_BUFFER_BYTES = 256 * 1024
"""Of the kernel, for each connection; left alone, it grows to megabytes for a slow reader."""


LEAST_READ_BYTES = 64 * 1024
"""What a reader must take in `ServerSettings.write_seconds` while more than that waits for it."""


MOST_UNANSWERED = 32
"""Requests that a connection may send before it has the answer to the first of them."""


class ParsingStoppedError(Exception):
    """Raised in the parser's callbacks, to stop it."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 that gives up on clients that do not read, or never ask.

    A client that takes less than `LEAST_READ_BYTES` from a full connection in
    `ServerSettings.write_seconds` is cut off, which cancels its request; so is one whose request
    head is not whole `body_seconds` after it has connected, or after the first byte of a later
    request. A head beyond `max_head_bytes` gets 431.
    """

    settings: ServerSettings
    """Set by `bounded_protocol`."""
    _awaits_head: asyncio.TimerHandle | None = None
    _awaits_reader: asyncio.TimerHandle | None = None
    _head_bytes = 0
    """Of the target and header fields of the present request; fields after its body count too."""
    _unparsed_bytes = 0
    """Received since the parser last gave anything: it holds them, as part of one field."""
    _unanswered: deque[Any]
    """Cycles of requests whose answers are not complete: the present one, and what waits for it."""

    def connection_made(self, transport: Any) -> None:
        """A new connection, which has some time to send the head of a request."""
        self._unanswered = deque()
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """A part of a request; the first byte of one starts the time for its head."""
        if not self._in_progress:
            self._await_head()
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self._head_bytes + self._unparsed_bytes > self.settings.max_head_bytes:
            self._refuse_head()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        super().on_url(url)
        self._count(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header field."""
        super().on_header(name, value)
        self._count(name, value)

    def on_headers_complete(self) -> None:
        """The head of a request has arrived."""
        _cancel(self._awaits_head)
        self._awaits_head = None
        self._unparsed_bytes = 0
        super().on_headers_complete()
        while self._unanswered and self._unanswered[0].response_complete:
            self._unanswered.popleft()
        self._unanswered.append(self.cycle)
        if len(self._unanswered) > MOST_UNANSWERED:
            self._cut_off("too many requests at once")
            raise ParsingStoppedError

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request."""
        self._unparsed_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser did not take."""
        if self.transport.is_closing():
            return
        if self._head_bytes > self.settings.max_head_bytes:
            self._refuse_head()
        else:
            super().send_400_response(msg)

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """The client has read what there was."""
        super().resume_writing()
        _cancel(self._awaits_reader)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever brought it about."""
        _cancel(self._awaits_head)
        _cancel(self._awaits_reader)
        super().connection_lost(exc)
        # The server tells the request that came last; one before it may be the one being answered.
        for cycle in self._unanswered:
            if not cycle.response_complete:
                cycle.disconnected = True
            cycle.message_event.set()

    @property
    def _in_progress(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        if self._awaits_head is None:
            self._awaits_head = self.loop.call_later(
                self.settings.body_seconds, self._cut_off, "no request"
            )

    def _await_reader(self) -> None:
        self._awaits_reader = self.loop.call_later(
            self.settings.write_seconds, self._check_reader, self._num_unsent
        )

    def _check_reader(self, unsent_before: int) -> None:
        if unsent_before - self._num_unsent < LEAST_READ_BYTES:
            self._cut_off("slow reader")
        else:
            self._await_reader()

    @property
    def _num_unsent(self) -> int:
        """Bytes that the client has not taken: those that wait here, and the kernel's."""
        waiting = int(self.transport.get_write_buffer_size())
        with suppress(OSError):
            connection = self.transport.get_extra_info("socket")
            kernel = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
            waiting += int.from_bytes(kernel, sys.byteorder)
        return waiting

    def _count(self, *parts: bytes) -> None:
        self._unparsed_bytes = 0
        self._head_bytes += sum(map(len, parts))
        if self._head_bytes > self.settings.max_head_bytes:
            raise ParsingStoppedError

    def _refuse_head(self) -> None:
        """Answer 431 and close; not in the middle of another answer, which is cut off."""
        if self.transport.is_closing():
            return
        if self._in_progress:
            self._cut_off("request head too large")
            return
        most = self.settings.max_head_bytes
        refusal = ApiError(
            431, f"The request's head is larger than {most:,} bytes.", code="head_too_large"
        ).response()
        head = b"".join(b"%b: %b\r\n" % field for field in refusal.raw_headers)
        self.transport.write(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"
            + head
            + b"\r\n"
            + bytes(refusal.body)
        )
        self.transport.close()

    def _cut_off(self, reason: str) -> None:
        log_event(_log, logging.INFO, "connection cut off", reason=reason)
        self.transport.abort()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def bounded_protocol(settings: ServerSettings) -> type[BoundedProtocol]:
    """The protocol with a server's settings, as uvicorn wants it: a class."""
    return type("BoundedProtocol", (BoundedProtocol,), {"settings": settings})
