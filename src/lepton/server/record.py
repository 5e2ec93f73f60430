"""What is known about one request by the time it is logged and counted."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.requests import Request

from lepton.security import ApiKey
from lepton.telemetry.tracing import Stage

ANONYMOUS = "anonymous"


@dataclass
class RequestRecord:
    """Filled on the request's way through the server; holds no text of prompts or completions."""

    id: str
    started: float = field(default_factory=time.monotonic)
    key: ApiKey | None = None
    for_api: bool = False
    """Whether it is a request to the API, which may need a key."""
    model: str | None = None
    stream: bool | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    first_token_seconds: float | None = None
    preemptions: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0
    """Of the draft tokens, those that were right."""
    finish_reasons: list[str] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    error_code: str | None = None
    error_status: int | None = None
    """Of the error that an event of a stream told, after a status of 200."""
    disconnected: bool = False

    @property
    def tenant(self) -> str:
        """The name of the key, or ``anonymous``: what belongs to one tenant is kept under it."""
        return self.key.name if self.key else ANONYMOUS

    def seconds(self) -> float:
        """Since the request's head arrived."""
        return time.monotonic() - self.started


def record_of(request: Request) -> RequestRecord:
    """The record that `RequestScope` attached to the request."""
    record: RequestRecord = request.state.record
    return record
