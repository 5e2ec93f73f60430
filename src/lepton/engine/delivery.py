"""Carries deltas from the step loop's thread to the event loops of their readers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterable

from lepton.engine.merging import DeltaMerger
from lepton.engine.outputs import OutputDelta, Usage


class Mailbox:
    """Unread deltas of one request, merged by completion. Filled by Delivery, read by one task."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lock: threading.RLock) -> None:
        self.loop = loop
        self.filled = asyncio.Event()
        """Set and cleared in the reader's event loop only."""
        self._lock = lock
        self._unread: dict[int, DeltaMerger] = {}
        self._usage_index: int | None = None

    def put(self, delta: OutputDelta) -> None:
        """Add a delta; the caller holds the lock."""
        self._unread.setdefault(delta.index, DeltaMerger()).add(delta)
        if delta.usage is not None:
            self._usage_index = delta.index

    async def get(self) -> OutputDelta:
        """The unread deltas of one completion as one; the request's last comes last."""
        while True:
            with self._lock:
                if self._unread:
                    index = min(self._unread, key=lambda each: each == self._usage_index)
                    return self._unread.pop(index).merged()
            self.filled.clear()
            await self.filled.wait()


class Delivery:
    """The mailboxes of all unfinished requests. Safe to use from any thread.

    However many deltas are posted, an event loop has at most one wake-up under way.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._mailboxes: dict[str, Mailbox] = {}
        self._filled: dict[asyncio.AbstractEventLoop, set[Mailbox]] = {}
        """Mailboxes that got something since their loop's last wake-up."""

    def __len__(self) -> int:
        return len(self._mailboxes)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._mailboxes

    def open(self, request_id: str, loop: asyncio.AbstractEventLoop) -> Mailbox:
        """A mailbox for a new request; it stays until the request's last delta is posted."""
        mailbox = Mailbox(loop, self._lock)
        with self._lock:
            self._mailboxes[request_id] = mailbox
        return mailbox

    def post(self, deltas: Iterable[OutputDelta]) -> list[str]:
        """Deliver deltas; returns the requests whose event loop is closed, and forgets them."""
        with self._lock:
            to_wake = {loop for delta in deltas if (loop := self._put(delta)) is not None}
        return [lost for loop in to_wake for lost in self._wake(loop)]

    def fail_all(self, error: str, keep: Collection[str] = ()) -> None:
        """End every open mailbox but those to ``keep``, when the step loop no longer can."""
        with self._lock:
            unfinished = [each for each in self._mailboxes if each not in keep]
        self.post(
            OutputDelta(
                request_id, 0, "", (), finish_reason="error", usage=Usage(0, 0), error=error
            )
            for request_id in unfinished
        )

    def _put(self, delta: OutputDelta) -> asyncio.AbstractEventLoop | None:
        """Fill a mailbox; its loop, if that has to be woken."""
        mailbox = self._mailboxes.get(delta.request_id)
        if mailbox is None:
            return None
        mailbox.put(delta)
        if delta.usage is not None:
            del self._mailboxes[delta.request_id]
        woken_already = mailbox.loop in self._filled
        self._filled.setdefault(mailbox.loop, set()).add(mailbox)
        return None if woken_already else mailbox.loop

    def _wake(self, loop: asyncio.AbstractEventLoop) -> list[str]:
        try:
            loop.call_soon_threadsafe(self._notify_readers, loop)
        except RuntimeError:  # The event loop is closed: nobody will ever read.
            with self._lock:
                self._filled.pop(loop, None)
                lost = [key for key, box in self._mailboxes.items() if box.loop is loop]
                for request_id in lost:
                    del self._mailboxes[request_id]
            return lost
        return []

    def _notify_readers(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            mailboxes = self._filled.pop(loop, set())
        for mailbox in mailboxes:
            mailbox.filled.set()
