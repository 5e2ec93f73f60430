"""Carries deltas from the step loop's thread to the event loops of their readers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace

from lepton.engine.merging import DeltaMerger
from lepton.engine.outputs import FinishReason, OutputDelta, Usage

STREAMS_PER_TOKEN = 8
MOST_TOKENS = 8
MOST_SECONDS = 0.1
LONG_STEP_SECONDS = 0.03
"""After a step this long no stream waits for another one."""


class Mailbox:
    """Unread deltas of one request, merged by completion. Filled by Delivery, read by one task."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, lock: threading.RLock, filled: asyncio.Event
    ) -> None:
        self.loop = loop
        self.filled = filled
        """Set and cleared in the reader's event loop only."""
        self.begun = False
        """Whether its first delta has been put in."""
        self._lock = lock
        self._unread: dict[int, DeltaMerger] = {}

    def put(self, delta: OutputDelta) -> None:
        """Add a delta; the caller holds the lock."""
        self.begun = True
        merger = self._unread.get(delta.index)
        if merger is None:
            merger = self._unread[delta.index] = DeltaMerger()
        merger.add(delta)

    def take(self) -> list[OutputDelta]:
        """Everything unread, one delta per completion; the request's last one comes last.

        What was on the request's first delta is on the first again.
        """
        with self._lock:
            unread, self._unread = self._unread, {}
        deltas = [merger.merged() for merger in unread.values()]
        deltas.sort(key=lambda delta: delta.usage is not None)
        for place, delta in enumerate(deltas[1:], start=1):
            if delta.prompt_logprobs is not None:
                deltas[0] = replace(deltas[0], prompt_logprobs=delta.prompt_logprobs)
                deltas[place] = replace(delta, prompt_logprobs=None)
        return deltas


@dataclass
class _Wakeup:
    """What an event loop has to be told."""

    held: set[Mailbox] = field(default_factory=set)
    """Mailboxes whose deltas may wait for more."""
    ready: set[Mailbox] = field(default_factory=set)
    """Mailboxes that are to be read now."""
    under_way: bool = False


class Delivery:
    """The mailboxes of all unfinished requests. Safe to use from any thread.

    However many deltas are posted, an event loop has at most one wake-up under way. The more
    streams gain a token at a time, the more tokens of each one wait to be delivered together, so
    that waking, encoding and writing leave the processors to the model: one more for every
    `STREAMS_PER_TOKEN` streams, at most `MOST_TOKENS` and `MOST_SECONDS`. A request's first delta,
    the last of each completion, and what a step of `LONG_STEP_SECONDS` brought never wait.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._mailboxes: dict[str, Mailbox] = {}
        self._wakeups: dict[asyncio.AbstractEventLoop, _Wakeup] = {}
        self._held_posts = 0
        """Calls of `post` since nothing was held."""
        self._flushed = self._posted = clock()

    def __len__(self) -> int:
        return len(self._mailboxes)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._mailboxes

    def open(
        self,
        request_id: str,
        loop: asyncio.AbstractEventLoop,
        filled: asyncio.Event | None = None,
    ) -> Mailbox:
        """A mailbox for a new request; it stays until the request's last delta is posted.

        ``filled`` is set when there is something to read; mailboxes may share it.
        """
        mailbox = Mailbox(loop, self._lock, filled or asyncio.Event())
        with self._lock:
            self._mailboxes[request_id] = mailbox
        return mailbox

    def post(self, deltas: Iterable[OutputDelta]) -> list[str]:
        """Deliver deltas; returns the requests whose event loop is closed, and forgets them."""
        with self._lock:
            count = 0
            for delta in deltas:
                count += 1
                self._put(delta)
            if self._is_due(count):
                for wakeup in self._wakeups.values():
                    wakeup.ready |= wakeup.held
                    wakeup.held.clear()
            to_wake = []
            for loop, wakeup in self._wakeups.items():
                if wakeup.ready and not wakeup.under_way:
                    wakeup.under_way = True
                    to_wake.append(loop)
        return [lost for loop in to_wake for lost in self._wake(loop)]

    def fail_all(
        self, error: str, keep: Collection[str] = (), reason: FinishReason = "error"
    ) -> None:
        """End every open mailbox but those to ``keep``, when the step loop no longer can."""
        with self._lock:
            unfinished = [each for each in self._mailboxes if each not in keep]
        self.post(
            OutputDelta(request_id, 0, "", (), finish_reason=reason, usage=Usage(0, 0), error=error)
            for request_id in unfinished
        )

    def _put(self, delta: OutputDelta) -> None:
        mailbox = self._mailboxes.get(delta.request_id)
        if mailbox is None:
            return
        urgent = not mailbox.begun or delta.finish_reason is not None
        mailbox.put(delta)
        if delta.usage is not None:
            del self._mailboxes[delta.request_id]
        wakeup = self._wakeups.get(mailbox.loop)
        if wakeup is None:
            wakeup = self._wakeups[mailbox.loop] = _Wakeup()
        if urgent:
            wakeup.held.discard(mailbox)
            wakeup.ready.add(mailbox)
        elif mailbox not in wakeup.ready:
            wakeup.held.add(mailbox)

    def _is_due(self, streams: int) -> bool:
        """Whether what is held is to be delivered, after a post for so many streams."""
        now = self._clock()
        self._held_posts += 1
        tokens = min(MOST_TOKENS, 1 + streams // STREAMS_PER_TOKEN)
        since_last = now - self._posted
        self._posted = now
        too_late = now + since_last - self._flushed > MOST_SECONDS
        due = self._held_posts >= tokens or since_last > LONG_STEP_SECONDS or too_late
        if due:
            self._held_posts = 0
            self._flushed = now
        return due

    def _wake(self, loop: asyncio.AbstractEventLoop) -> list[str]:
        try:
            loop.call_soon_threadsafe(self._notify_readers, loop)
        except RuntimeError:  # The event loop is closed: nobody will ever read.
            with self._lock:
                self._wakeups.pop(loop, None)
                lost = [key for key, box in self._mailboxes.items() if box.loop is loop]
                for request_id in lost:
                    del self._mailboxes[request_id]
            return lost
        return []

    def _notify_readers(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            wakeup = self._wakeups[loop]
            mailboxes, wakeup.ready = wakeup.ready, set()
            wakeup.under_way = False
            if not wakeup.held:
                del self._wakeups[loop]
        for mailbox in mailboxes:
            mailbox.filled.set()
