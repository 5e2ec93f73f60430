"""OpenTelemetry traces of requests: one span for each, and one for each stage it went through.

Spans are made when a request has ended, from times that were noted on its way, so that tracing
costs nothing while tokens are generated. Names follow the semantic conventions for HTTP and
generative AI (https://opentelemetry.io/docs/specs/semconv/gen-ai/). No text of prompts or
completions is in them.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lepton.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_log = logging.getLogger("lepton.telemetry")

SERVICE = "lepton"
CLOSE_SECONDS = 2.0
"""The exporter itself tries a collector that is gone for longer than a process may take to end."""

Attribute = str | bool | int | float | Sequence[str]


@dataclass(frozen=True)
class Stage:
    """A part of a request's time, in seconds of ``time.monotonic``."""

    name: str
    start: float
    end: float


class Tracing:
    """Makes spans and hands them to whoever `provider` exports to."""

    def __init__(self, provider: TracerProvider, version: str) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE, version)

    def request(
        self,
        name: str,
        start: float,
        stages: Sequence[Stage],
        *,
        headers: Mapping[str, str],
        attributes: Mapping[str, Attribute | None],
        error: str | None = None,
    ) -> str:
        """Note a request that began at ``start`` (``time.monotonic``) and ends now; its trace id.

        It continues the trace that a ``traceparent`` header names. None values are left out.
        """
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract(headers)
        shift = time.time() - time.monotonic()
        span = self._tracer.start_span(
            name,
            context=parent,
            kind=SpanKind.SERVER,
            start_time=_nanoseconds(start + shift),
            attributes={key: value for key, value in attributes.items() if value is not None},
        )
        if span.is_recording():
            if error is not None:
                span.set_status(Status(StatusCode.ERROR, error))
            inside = set_span_in_context(span)
            for stage in stages:
                child = self._tracer.start_span(
                    stage.name, context=inside, start_time=_nanoseconds(stage.start + shift)
                )
                child.end(_nanoseconds(stage.end + shift))
        span.end()
        return f"{span.get_span_context().trace_id:032x}"

    def close(self) -> None:
        """Send what has not been sent yet, as far as the collector takes it in a short time."""
        closing = threading.Thread(
            target=self._provider.shutdown, name="lepton-tracing-close", daemon=True
        )
        closing.start()
        closing.join(CLOSE_SECONDS)
        if closing.is_alive():
            _log.warning("the last traces were not sent: the collector does not answer")


def collector_from_environment() -> str | None:
    """Where ``OTEL_EXPORTER_OTLP_ENDPOINT``, which all signals share, wants traces to be sent.

    None without it, with ``OTEL_SDK_DISABLED`` or ``OTEL_TRACES_EXPORTER=none``. Such a variable
    is often set for everything on a machine, so what stands against traces is logged, not raised.
    """
    base = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").rstrip("/")
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if not base or disabled or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", ""
    )
    if protocol == "grpc" or not base.startswith(("http://", "https://")):
        _log.warning("no traces are sent to %s: OTLP is spoken over HTTP only", base)
        return None
    try:
        import opentelemetry.exporter.otlp.proto.http  # noqa: F401
    except ImportError:
        _log.warning("no traces are sent to %s: pip install 'lepton-engine[otel]'", base)
        return None
    return f"{base}/v1/traces"


def open_tracing(endpoint: str, version: str) -> Tracing:
    """Send traces by OTLP over HTTP to a collector, such as ``http://127.0.0.1:4318/v1/traces``.

    What else there is to choose (sampler, headers, resource attributes) comes from OpenTelemetry's
    own environment variables. Raises ConfigurationError when the extra ``otel`` is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigurationError(
            "tracing is not installed: pip install 'lepton-engine[otel]'"
        ) from error
    resource = Resource.create({"service.version": version})
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": SERVICE}))
    # Its own handler at exit would wait for a dead collector once more.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return Tracing(provider, version)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
