"""What the operator decides about the server."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from lepton.errors import ConfigurationError


@dataclass(frozen=True)
class ServerSettings:
    """Address, access and limits of one server; raises ConfigurationError on nonsense."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0 lets the system choose."""
    model_name: str | None = None
    """The name clients use; None takes the model's own."""
    keys_file: Path | None = None
    """API keys, see `lepton.security.keys`; None lets everyone in."""
    allow_anonymous: bool = False
    """Serve beyond this machine without API keys."""
    cors_origins: tuple[str, ...] = ()
    """Web origins whose pages may call the API, such as ``https://chat.example.com``."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names accepted beside the local ones while the server needs no key."""

    max_head_bytes: int = 64 * 1024
    """Of a request's target and header fields; more get 431."""
    max_body_bytes: int = 1024 * 1024
    body_seconds: float = 30.0
    """Time in which a request's head must have arrived, and then its body."""
    write_seconds: float = 30.0
    """Time after which a client that has all but stopped reading its answer is cut off."""
    max_messages: int = 1000
    max_prompts: int = 64
    """Prompts in one completion request."""
    max_n: int = 16
    max_completions: int = 128
    """Prompts times ``n`` in one request."""
    max_tokens: int | None = None
    """Most tokens one completion may have, beside the context length."""
    max_stop: int = 16
    max_stop_characters: int = 256
    max_top_logprobs: int = 20
    max_requests: int = 512
    """API requests in progress at once; the engine's queue is bounded on its own."""

    max_queue_seconds: float | None = None
    """Time that a request may wait for its turn before it is refused after all."""
    request_seconds: float | None = None
    """Time after which a request ends with what has been generated, unless it asks for less."""
    otlp_endpoint: str | None = None
    """Collector that gets OpenTelemetry traces by OTLP over HTTP; None: there are no traces."""
    drain_seconds: float = 30.0
    """Time that requests in progress have to finish after SIGTERM."""
    liveness_seconds: float = 30.0
    """`/livez` fails when the engine's loop has not gone round for so long."""
    heartbeat_seconds: float = 15.0
    """Silence after which a stream carries a comment, so that proxies keep it open."""
    keep_alive_seconds: int = 30

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigurationError(f"port must be from 0 to 65535, not {self.port}")
        for name in ("max_tokens", *_AT_LEAST_ONE):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {value}")
        for name in ("body_seconds", "write_seconds", "liveness_seconds", "heartbeat_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("max_queue_seconds", "request_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigurationError(f"{name} must be above 0, not {value}")
        endpoint = self.otlp_endpoint
        if endpoint is not None and not endpoint.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"otlp_endpoint must look like http://127.0.0.1:4318/v1/traces, not {endpoint!r}"
            )
        if not self.drain_seconds >= 0:
            raise ConfigurationError(f"drain_seconds must not be below 0: {self.drain_seconds}")
        for origin in self.cors_origins:
            if origin != "*" and not origin.startswith(("http://", "https://")):
                raise ConfigurationError(
                    f"CORS origin {origin!r} must look like https://chat.example.com, or be '*'"
                )

    @property
    def local(self) -> bool:
        """Whether only programs on this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


_AT_LEAST_ONE = (
    "max_head_bytes",
    "max_body_bytes",
    "max_messages",
    "max_prompts",
    "max_n",
    "max_completions",
    "max_stop",
    "max_stop_characters",
    "max_top_logprobs",
    "max_requests",
    "keep_alive_seconds",
)
