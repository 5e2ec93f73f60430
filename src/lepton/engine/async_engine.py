"""The engine behind asyncio: a step loop in its own thread, a stream of deltas per request."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lepton.engine.config import EngineConfig
from lepton.engine.core import EngineCore
from lepton.engine.delivery import Delivery, Mailbox
from lepton.engine.outputs import EngineStats, OutputDelta
from lepton.engine.request_options import RequestOptions
from lepton.engine.sampling_params import SamplingParams
from lepton.errors import CapacityError, RequestError, UnavailableError

if TYPE_CHECKING:
    from lepton.engine.sequence import Request
    from lepton.models.loader import Model
    from lepton.models.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

_IDLE_SECONDS = 0.5
_POLL_SECONDS = 0.02
_STOP_SECONDS = 5.0
"""How long the end waits for a step; longer than one takes unless it hangs."""
_MOST_FAULTS, _FAULT_SECONDS = 3, 60.0
"""So many faults of the loop are survived in so many seconds."""
_FAULT = "internal error: the engine was restarted"


class RequestStream(AsyncIterator[OutputDelta]):
    """The deltas of one request. Closing, dropping or cancelling it aborts the request.

    Deltas that pile up unread are merged, so a slow reader costs no more than its whole text.
    """

    def __init__(self, request_id: str, mailbox: Mailbox, abort: Callable[[str], None]) -> None:
        self.request_id = request_id
        self.finished = False
        """Whether the last delta has been read, or the stream was closed."""
        self._mailbox = mailbox
        self._abort = abort
        self._unread: deque[OutputDelta] = deque()

    async def __anext__(self) -> OutputDelta:
        """The next delta, merged with what came since the last call for the same index."""
        while not self._unread:
            if self.finished:
                raise StopAsyncIteration
            try:
                await self._mailbox.filled.wait()
            except BaseException:
                self._close()
                raise
            self._mailbox.filled.clear()
            self._unread.extend(self.take())
        return self._unread.popleft()

    def take(self) -> list[OutputDelta]:
        """Everything that came since the last call, one delta per completion; never waits."""
        deltas = [] if self.finished else self._mailbox.take()
        if deltas and deltas[-1].usage is not None:
            self.finished = True
        return deltas

    async def aclose(self) -> None:
        """Abort the request unless it has finished."""
        self._close()

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        if not self.finished:
            self.finished = True
            self._abort(self.request_id)


class AsyncEngine:
    """Runs requests in a thread of its own; every method may be called from any thread."""

    def __init__(self, model: Model, config: EngineConfig | None = None) -> None:
        """Build the executor and its cache; ConfigurationError when no context fits in memory."""
        self._config = config or EngineConfig()
        self._core = EngineCore(model, self._config)
        self._delivery = Delivery()
        self._aborted: deque[str] = deque()
        self._tick = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="lepton-engine", daemon=True)
        self._condition = threading.Condition()
        """Guards everything below."""
        self._new: deque[Request] = deque()
        self._refusal: str | None = "the engine has not been started"
        self._cancel_all = False
        self._stopping = False
        self._stuck = False
        """Whether the loop was waited for in vain."""
        self._closed = False

    def start(self) -> None:
        """Start the step loop. Requests before it get UnavailableError."""
        with self._condition:
            self._refusal = None
            self._tick = time.monotonic()
        self._thread.start()

    def generate(
        self,
        prompt_token_ids: Sequence[int],
        params: SamplingParams | None = None,
        *,
        request_id: str | None = None,
        echo_logprobs: bool = False,
        options: RequestOptions | None = None,
        filled: asyncio.Event | None = None,
    ) -> RequestStream:
        """Queue a request now and return its deltas: ``async for delta in engine.generate(…)``.

        Called in a running event loop; not a coroutine. With ``echo_logprobs`` the first delta
        carries ``prompt_logprobs``. ``filled``, which several requests may share, is set whenever
        there is something to `RequestStream.take`.

        Raises, at the call: RequestError (empty prompt, id outside the vocabulary, longer than the
        context: code ``context_length_exceeded``), CapacityError (queue full, see
        ``retry_after``), UnavailableError (not started, draining, stopped).
        """
        loop = asyncio.get_running_loop()
        request_id = request_id or uuid.uuid4().hex
        request = self._core.make_request(
            request_id,
            prompt_token_ids,
            params or SamplingParams(),
            echo_logprobs=echo_logprobs,
            options=options,
        )
        with self._condition:
            self.check_room(request.options.tenant, request.options.priority)
            if request_id in self._delivery:
                raise RequestError(f"request id {request_id!r} is in use", param="request_id")
            mailbox = self._delivery.open(request_id, loop, filled)
            self._new.append(request)
            self._condition.notify()
        return RequestStream(request_id, mailbox, self.abort)

    def check_room(self, tenant: str = "", priority: int = 0) -> None:
        """Raise CapacityError or UnavailableError as `generate` would now, whatever the prompt.

        When as many wait as may, a tenant with less than its share of them is let in all the same,
        and it is its own wait that counts: nobody is refused for what others of the same priority
        have asked. So N tenants may have 1 + 1/2 + … + 1/N times as many in the queue.
        """
        if self._refusal is not None:
            raise UnavailableError(self._refusal)
        with self._condition:
            queue = self._core.unadmitted()
            for request in self._new:
                queue.add(request.options)
            free = self._core.free_places
        ahead = max(0, queue.ahead(tenant, priority) - free)
        expected = self._core.queue_pace.wait(ahead)
        most, limit = self._config.max_queue, self._config.max_queue_seconds
        waiting = len(queue) - free
        if waiting >= most and queue.own(tenant) >= queue.share(tenant, most):
            raise CapacityError(
                f"{waiting} requests are waiting already; try again later",
                retry_after=max(1.0, expected),
            )
        if limit is not None and expected > limit:
            raise CapacityError(
                f"{ahead} requests are to be served before, in about {expected:.1f} seconds; "
                "try again later",
                retry_after=max(1.0, expected - limit),
            )

    def abort(self, request_id: str) -> None:
        """End a request; its reader gets finish_reason ``cancelled``. Unknown ids are ignored."""
        # Without a lock, as finalizers call this; the loop is awake while there are requests.
        self._aborted.append(request_id)

    def stats(self) -> EngineStats:
        """Counters and gauges as of the last step."""
        stats = self._core.stats()
        return replace(stats, waiting=stats.waiting + len(self._new))

    def seconds_since_tick(self) -> float:
        """Seconds since the loop last went round; it does at least once a second when idle."""
        return time.monotonic() - self._tick

    @property
    def alive(self) -> bool:
        """Whether the step loop is running."""
        return self._thread.is_alive()

    @property
    def model(self) -> Model:
        """The loaded model."""
        return self._core.model

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._core.model.tokenizer

    @property
    def context_length(self) -> int:
        """Tokens of prompt and completion together."""
        return self._core.context_length

    async def drain(self, grace: float) -> None:
        """Refuse new requests, wait up to ``grace`` seconds for the others, then cancel them.

        Their readers have their last deltas at the end, even while a step hangs.
        """
        with self._condition:
            self._refusal = self._refusal or "the engine is shutting down"
        await self._wait_until_empty(grace)
        with self._condition:
            self._cancel_all = True
            self._condition.notify()
        await self._wait_until_empty(_STOP_SECONDS)
        if len(self._delivery):
            self._give_up()

    def shutdown(self) -> None:
        """Cancel what is left, stop the loop and release the executor. May be called twice."""
        with self._condition:
            self._refusal = "the engine has been shut down"
            self._stopping = True
            self._condition.notify()
        if self._thread.is_alive() and not self._stuck:
            self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            self._give_up()
        elif not self._closed:
            self._closed = True
            self._core.close()

    def _give_up(self) -> None:
        """End the requests of a loop that hangs."""
        if not self._stuck:
            self._stuck = True
            logger.error("the engine is stuck in a step; its executor is not released")
        self._delivery.fail_all("the engine is stuck in a step", reason="cancelled")

    async def _wait_until_empty(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while len(self._delivery) and self.alive and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS)

    def _run(self) -> None:
        try:
            self._supervise()
        except BaseException:
            logger.exception("the engine's step loop died")
        finally:
            with self._condition:
                self._refusal = self._refusal or "the engine has stopped"
            self._delivery.fail_all("the engine has stopped")

    def _supervise(self) -> None:
        """Go round until it is time to stop; begin anew after faults, unless they keep coming."""
        faults: deque[float] = deque(maxlen=_MOST_FAULTS)
        while True:
            try:
                if not self._turn():
                    return
            except Exception:
                logger.exception("a fault in the engine's step loop; every request is ended")
                now = time.monotonic()
                if len(faults) == _MOST_FAULTS and now - faults[0] < _FAULT_SECONDS:
                    raise
                faults.append(now)
                self._delivery.post(self._core.restart(_FAULT))
                with self._condition:  # Over both, or one queued in between would be failed.
                    new = {request.request_id for request in self._new}
                    self._delivery.fail_all(_FAULT, keep=new)

    def _turn(self) -> bool:
        """Take in what callers want, compute one step, deliver; False when it is time to stop."""
        with self._condition:
            if not (self._new or self._core.has_work or self._cancel_all or self._stopping):
                self._condition.wait(_IDLE_SECONDS)
            # Before the new requests are added, so that what is to be aborted is known by then.
            aborted = [self._aborted.popleft() for _ in range(len(self._aborted))]
            while self._new:
                self._core.add(self._new.popleft())
            stopping = self._stopping
            cancel_all, self._cancel_all = self._cancel_all or stopping, False
            self._tick = time.monotonic()
        deltas = [delta for request_id in aborted for delta in self._core.abort(request_id)]
        if cancel_all:
            deltas += self._core.abort_all()
        if self._core.has_work:
            deltas += self._core.step()
        self._aborted.extend(self._delivery.post(deltas))
        return not stopping
