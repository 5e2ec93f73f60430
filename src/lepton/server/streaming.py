"""Server-sent events, and work that ends when the client leaves.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lepton.engine import RequestOptions
from lepton.server.errors import as_api_error, too_late
from lepton.server.record import RequestRecord

_log = logging.getLogger("lepton.server")

DONE = b"data: [DONE]\n\n"
HEARTBEAT = b": waiting\n\n"

Result = TypeVar("Result")


def event(content: Any) -> bytes:
    """One event with a JSON object as its data."""
    return b"data: " + orjson.dumps(content) + b"\n\n"


class EventStream(Response):
    """Sends what a generator yields, and stops the generator when the client disconnects.

    The response begins with the generator's first part, so that what fails before it (a full
    queue, say) is still answered with a status. An exception later on becomes an event with an
    OpenAI-shaped error. `DONE` ends the stream.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes], record: RequestRecord) -> None:
        super().__init__(
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
        del self.headers["content-length"]
        self._events = events
        self._record = record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send everything; raises ClientDisconnect when the client left before the end."""
        await _until_disconnect(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            first = await anext(events, b"")
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            try:
                await send({"type": "http.response.body", "body": first, "more_body": True})
                async for chunk in events:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except Exception as error:
                await send(
                    {
                        "type": "http.response.body",
                        "body": self._failure(error),
                        "more_body": True,
                    }
                )
        await send({"type": "http.response.body", "body": DONE, "more_body": False})

    def _failure(self, error: Exception) -> bytes:
        failure = as_api_error(error)
        self._record.error_code = failure.code
        self._record.error_status = failure.status
        if failure.status == 500:
            fields = {"request_id": self._record.id}
            _log.error("stream failed", exc_info=error, extra={"fields": fields})
        return event(failure.body())


async def until_disconnect(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of ``work``, cancelled with ClientDisconnect when the client leaves first.

    The request's body must have been read.
    """
    return await _until_disconnect(request.receive, work)


async def in_time(
    request: Request, options: RequestOptions, work: Coroutine[Any, Any, Result]
) -> Result:
    """The same for what comes before the engine; ApiError 504 when the request's time is up."""
    left = None
    if options.timeout is not None and options.since is not None:
        left = options.since + options.timeout - time.monotonic()
    timeout = asyncio.timeout(left)
    try:
        async with timeout:
            return await until_disconnect(request, work)
    except TimeoutError:
        if options.timeout is None or not timeout.expired():
            raise
        raise too_late(options.timeout) from None


async def _until_disconnect(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
