"""A client that costs little: many streams in one process, each event stamped as it arrives.

It speaks HTTP/1.1 itself and only counts events on the way, so that the processors are the
server's. What it takes of them is reported all the same (`Report.client_seconds`).
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.closed_loop import post_bytes

_EVENT = b'data: {"'
_NO_CHOICE = b'"choices":[]'
_ERROR = b'data: {"error":'
_USAGE = re.compile(rb'"completion_tokens":\s*(\d+)')
_CACHED = re.compile(rb'"cached_tokens":\s*(\d+)')
_TEXT = re.compile(rb"^data: (\{.*\})\r?$", re.MULTILINE)
_RETRY_AFTER = re.compile(rb"^retry-after:\s*(\d+)", re.IGNORECASE | re.MULTILINE)
_GRACE_SECONDS = 600.0


@dataclass(frozen=True)
class Call:
    """A completion to ask for: the body as JSON fields, and when, in seconds from the start."""

    body: Mapping[str, Any]
    at: float = 0.0


@dataclass
class Reply:
    """What became of one call; times are seconds on the clock of `time.perf_counter`."""

    sent: float
    status: int = 0
    events: list[float] = field(default_factory=list)
    """When each event with a choice arrived."""
    tokens: int = 0
    cached_tokens: int = 0
    ended: float = 0.0
    retry_after: int | None = None
    complete: bool = False
    """Whether the stream ended as the API says, with ``[DONE]``."""
    body: bytes = field(default=b"", repr=False)
    error: str = ""

    @property
    def text(self) -> str:
        """The completion."""
        return "".join(map(_text, _TEXT.findall(self.body)))

    @property
    def first_token_seconds(self) -> float:
        """From sending the request to the first event."""
        return self.events[0] - self.sent

    @property
    def seconds(self) -> float:
        """From sending the request to the end of the answer."""
        return self.ended - self.sent

    @property
    def gaps(self) -> list[float]:
        """Silences between the events of the stream."""
        return [after - before for before, after in zip(self.events, self.events[1:], strict=False)]


@dataclass(frozen=True)
class Report:
    """All replies, in the order of the calls."""

    replies: list[Reply]
    seconds: float
    """From the first call to the end of the last answer."""
    client_seconds: float
    """Processor time that the client took."""

    @property
    def answered(self) -> list[Reply]:
        """Replies that are whole."""
        return [reply for reply in self.replies if reply.complete and reply.status == 200]

    @property
    def tokens_per_second(self) -> float:
        """Completion tokens of whole answers over the whole time."""
        return sum(reply.tokens for reply in self.answered) / self.seconds

    @property
    def gaps(self) -> list[float]:
        """The silences of all whole answers."""
        return [gap for reply in self.answered for gap in reply.gaps]


def run_calls(
    port: int, path: str, calls: Sequence[Call], enough: Callable[[Reply], bool] | None = None
) -> Report:
    """Make every call at its time, all of them if need be at once, and wait for the answers.

    Once ``enough`` says so of a reply that has ended, those in progress are broken off and the
    others not made.
    """
    requests = [post_bytes(path, call.body, close=True) for call in calls]
    cpu, start = time.process_time(), time.perf_counter()
    replies = asyncio.run(_run(port, calls, requests, enough))
    used = time.process_time() - cpu
    first = min(reply.sent for reply in replies)
    return Report(replies, max(reply.ended for reply in replies) - max(first, start), used)


async def _run(
    port: int,
    calls: Sequence[Call],
    requests: Sequence[bytes],
    enough: Callable[[Reply], bool] | None,
) -> list[Reply]:
    start = time.perf_counter()
    replies = [Reply(start + call.at, ended=start + call.at) for call in calls]
    async with asyncio.timeout(_GRACE_SECONDS), asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_call(port, reply, request))
            for reply, request in zip(replies, requests, strict=True)
        ]
        for coming in asyncio.as_completed(tasks):
            ended = await coming
            if enough is not None and enough(ended):
                for task in tasks:
                    task.cancel()
                break
    return replies


async def _call(port: int, reply: Reply, request: bytes) -> Reply:
    await asyncio.sleep(max(0.0, reply.sent - time.perf_counter()))
    loop = asyncio.get_running_loop()
    reply.sent = time.perf_counter()
    try:
        transport, stream = await loop.create_connection(
            lambda: _Stream(request, reply, loop.create_future()), "127.0.0.1", port
        )
        try:
            await stream.done
        finally:
            transport.close()
    except OSError as error:
        reply.error = str(error)
        reply.ended = time.perf_counter()
    return reply


class _Stream(asyncio.Protocol):
    """One connection: sends the request, stamps events, reads until the server closes."""

    def __init__(self, request: bytes, reply: Reply, done: asyncio.Future[None]) -> None:
        self._request = request
        self._reply = reply
        self.done = done
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._received += data
        # Servers write whole events, so that none is cut where it begins.
        if data.count(_EVENT) > data.count(_NO_CHOICE) + data.count(_ERROR):
            self._reply.events.append(now)

    def connection_lost(self, error: Exception | None) -> None:
        reply, received = self._reply, bytes(self._received)
        reply.ended = time.perf_counter()
        head, _, body = received.partition(b"\r\n\r\n")
        reply.status = int(head[9:12]) if head.startswith(b"HTTP/1.") else 0
        reply.complete = b"data: [DONE]" in body and _ERROR not in body
        if found := _USAGE.findall(body):
            reply.tokens = int(found[-1])
        if found := _CACHED.findall(body):
            reply.cached_tokens = int(found[-1])
        if found := _RETRY_AFTER.findall(head):
            reply.retry_after = int(found[0])
        if not reply.complete:
            reply.error = str(error or body[-200:].decode("utf-8", "replace"))
        reply.body = body
        if not self.done.done():
            self.done.set_result(None)


def _text(event: bytes) -> str:
    """The text of an event's choices."""
    try:
        choices = json.loads(event).get("choices") or []
    except ValueError:
        return ""
    return "".join(
        str(choice.get("text") or (choice.get("delta") or {}).get("content") or "")
        for choice in choices
    )
