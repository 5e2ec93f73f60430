"""How fast the queue moves, to tell how long a new request would wait."""

from __future__ import annotations

import time

_LEARN = 0.2
_LEAST_SECONDS, _MOST_SECONDS = 0.001, 60.0


class QueuePace:
    """Mean time between admissions while requests wait. Written by the step loop, read by all."""

    def __init__(self) -> None:
        self._seconds: float | None = None
        self._last = time.monotonic()
        self._oldest: float | None = None

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest of those that wait has been here; 0 when none waits."""
        oldest = self._oldest
        return 0.0 if oldest is None else time.monotonic() - oldest

    def note(self, admitted: int, waiting: bool, oldest: float | None) -> None:
        """Take in how many requests were just admitted, and whether some had been left waiting.

        Requests that came since the last admissions do not count as such: the time before them says
        nothing of the pace. ``oldest`` is when the first of those that still wait has arrived.
        """
        self._oldest = oldest
        now = time.monotonic()
        if admitted and waiting:
            interval = (now - self._last) / admitted
            known = interval if self._seconds is None else self._seconds
            self._seconds = known + _LEARN * (interval - known)
        if admitted or not waiting:
            self._last = now

    def wait(self, num_ahead: int) -> float:
        """Seconds that a request with so many ahead of it will probably wait; 0: not known."""
        if num_ahead == 0 or self._seconds is None:
            return 0.0
        # Nobody has been left waiting: the time since the last admission was idle.
        stalled = 0.0 if self._oldest is None else time.monotonic() - self._last
        interval = max(self._seconds, stalled if stalled > 4 * self._seconds else 0.0)
        return num_ahead * min(_MOST_SECONDS, max(_LEAST_SECONDS, interval))
