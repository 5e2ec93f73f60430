"""Who is let in, how many at once and how often; and the end of letting in."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lepton.errors import CapacityError, UnavailableError
from lepton.security import ApiKey, KeyFile
from lepton.server.errors import ApiError
from lepton.server.settings import ServerSettings

WINDOW_SECONDS = 60.0


@dataclass
class _Usage:
    in_progress: int = 0
    arrivals: deque[float] = field(default_factory=deque)
    """Times of the requests of the last minute, oldest first."""


class Admission:
    """Counts requests in progress, for the server and for each key. Event loop only."""

    def __init__(
        self, settings: ServerSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_requests = settings.max_requests
        self._keys = KeyFile(settings.keys_file) if settings.keys_file else None
        self._clock = clock
        self._usage: dict[str | None, _Usage] = {}
        """By the key's name; None: of all callers without one."""
        self._deadline: float | None = None
        self.in_progress = 0
        self.closed: str | None = None
        """Why nobody is let in yet."""

    @property
    def needs_key(self) -> bool:
        """Whether callers must show an API key."""
        return self._keys is not None

    def close(self, reason: str) -> None:
        """Refuse requests until `open`."""
        self.closed = reason

    def open(self) -> None:
        """Let requests in."""
        self.closed = None

    @property
    def draining(self) -> bool:
        """Whether new requests are refused because the server is about to stop."""
        return self._deadline is not None

    @property
    def drained(self) -> bool:
        """Whether the server may stop: nothing is in progress, or the grace period is over."""
        return self._deadline is not None and (
            self.in_progress == 0 or self._clock() >= self._deadline
        )

    def drain(self, grace_seconds: float) -> None:
        """Refuse requests from now on. Safe in a signal handler."""
        if self._deadline is None:
            self._deadline = self._clock() + grace_seconds

    def authenticate(self, authorization: str | None) -> ApiKey | None:
        """The key in an Authorization header; None when the server needs none.

        Raises ApiError 401 when the key is missing or unknown.
        """
        if self._keys is None:
            return None
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise _unauthorized("No API key was given: send 'Authorization: Bearer <key>'.")
        key = self._keys.current().authenticate(secret.strip())
        if key is None:
            raise _unauthorized("The API key is not valid.")
        return key

    def may_see_keys(self, authorization: str | None) -> bool:
        """Whether a caller may see what each key asks for: all may where nobody needs one."""
        if self._keys is None:
            return True
        try:
            key = self.authenticate(authorization)
        except ApiError:
            return False
        return key is not None and key.metrics

    @contextmanager
    def enter(self, key: ApiKey | None, *, counted: bool) -> Iterator[None]:
        """Hold a place for one request; ``counted`` ones use up the key's requests per minute.

        Raises UnavailableError while closed or draining, CapacityError above a limit. When as many
        are in progress as may be, a key with less than its share of them is let in all the same.
        """
        if self.closed is not None:
            raise UnavailableError(self.closed)
        if self.draining:
            raise UnavailableError("The server is shutting down and takes no new requests.")
        usage = self._usage.setdefault(key.name if key else None, _Usage())
        if self.in_progress >= self._max_requests and usage.in_progress >= self._share(usage):
            raise CapacityError(
                f"The server is busy with {self.in_progress} requests; try again shortly."
            )
        if key and counted:
            self._check_key(key, usage)
            usage.arrivals.append(self._clock())
        self.in_progress += 1
        usage.in_progress += 1
        try:
            yield
        finally:
            self.in_progress -= 1
            usage.in_progress -= 1

    def _share(self, usage: _Usage) -> int:
        """How many of the requests in progress one key may have while others have some."""
        present = sum(each.in_progress > 0 or each is usage for each in self._usage.values())
        return max(1, self._max_requests // present)

    def _check_key(self, key: ApiKey, usage: _Usage) -> None:
        limit = key.limits.concurrent_requests
        if limit is not None and usage.in_progress >= limit:
            raise CapacityError(
                f"The API key {key.name!r} may have {limit} requests in progress at once."
            )
        now = self._clock()
        while usage.arrivals and usage.arrivals[0] <= now - WINDOW_SECONDS:
            usage.arrivals.popleft()
        limit = key.limits.requests_per_minute
        if limit is None:
            usage.arrivals.clear()
        elif len(usage.arrivals) >= limit:
            # When a limit was lowered, more than one arrival must leave the window first.
            leaving = usage.arrivals[len(usage.arrivals) - limit]
            raise CapacityError(
                f"The API key {key.name!r} may make {limit} requests per minute.",
                retry_after=math.ceil(leaving + WINDOW_SECONDS - now),
            )


def _unauthorized(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
