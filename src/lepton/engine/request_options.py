"""What the engine is told of a request beside its tokens and how they are chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lepton.errors import RequestError

_PRIORITY_LIMIT = 1000


@dataclass(frozen=True)
class RequestOptions:
    """Whose a request is, how urgent, and for how long it matters; RequestError when out of range.

    None of this changes a completion, except that a deadline may cut it short.
    """

    tenant: str = ""
    """Who asks, such as the name of an API key. Tenants get equal shares of the engine."""
    priority: int = 0
    """Lower numbers are served first, and may take the place of running requests of higher ones."""
    cache_salt: str | None = None
    """Only requests of equal salt find each other's prompts in the cache. None: the tenant's name,
    so that no tenant learns from response times what another has asked."""
    queue_timeout: float | None = None
    """Seconds that a request may wait to be admitted for the first time."""
    timeout: float | None = None
    """Seconds after which it ends, with what has been generated."""
    since: float | None = None
    """From when ``timeout`` counts, by ``time.monotonic()``; None: from when it is queued."""

    def __post_init__(self) -> None:
        for name in ("tenant", "cache_salt"):
            value = getattr(self, name)
            if not isinstance(value, str) and not (name == "cache_salt" and value is None):
                raise RequestError(f"{name} must be a text", param=name)
        whole = isinstance(self.priority, int) and not isinstance(self.priority, bool)
        if not whole or abs(self.priority) > _PRIORITY_LIMIT:
            raise RequestError(
                f"priority must be a whole number from -{_PRIORITY_LIMIT} to {_PRIORITY_LIMIT}",
                param="priority",
            )
        for name in ("queue_timeout", "timeout"):
            value = getattr(self, name)
            if value is None:
                continue
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value <= 0:
                raise RequestError(f"{name} must be a number of seconds above 0", param=name)

    @property
    def salt(self) -> str:
        """The salt that holds."""
        return f"tenant {self.tenant}" if self.cache_salt is None else f"salt {self.cache_salt}"
