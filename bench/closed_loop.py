"""Clients that ask again as soon as they are answered, and cost the server little.

They are one process that speaks HTTP/1.1 itself over connections that stay open.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_TIMEOUT_SECONDS = 30.0


@dataclass
class Load:
    """What the clients saw."""

    latencies: list[float] = field(default_factory=list)
    """Seconds of each request that was answered well."""
    failed: int = 0


def post_bytes(path: str, body: Mapping[str, Any], *, close: bool = False) -> bytes:
    """A request with a JSON body; ``close`` asks the server to end the connection after it."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n"
    )
    if close:
        head += "Connection: close\r\n"
    return head.encode() + b"\r\n" + content


async def closed_loop(port: int, requests: Iterable[bytes], clients: int, until: float) -> Load:
    """Send the requests in turn from so many clients, until that time of `time.perf_counter`."""
    load = Load()
    waiting = itertools.cycle(list(requests))
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(_client(port, waiting, until, load))
    return load


async def _client(port: int, requests: Iterator[bytes], until: float, load: Load) -> None:
    loop = asyncio.get_running_loop()
    try:
        transport, client = await loop.create_connection(_Client, "127.0.0.1", port)
    except OSError:
        load.failed += 1
        return
    try:
        while (sent := time.perf_counter()) < until:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                status = await client.ask(next(requests))
            if status != 200:
                load.failed += 1
                return
            load.latencies.append(time.perf_counter() - sent)
    except (OSError, TimeoutError):
        load.failed += 1
    finally:
        transport.close()


class _Client(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._answered: asyncio.Future[int] | None = None
        self._transport: asyncio.WriteTransport

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """The status of the answer, once all of it is there."""
        self._received = b""
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end and len(body) >= _content_length(head) and self._waiting is not None:
            self._waiting.set_result(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting is not None:
            self._waiting.set_exception(error or ConnectionError("the server closed"))

    @property
    def _waiting(self) -> asyncio.Future[int] | None:
        """What waits for an answer."""
        return None if self._answered is None or self._answered.done() else self._answered


def _content_length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].split(maxsplit=1)[0])
