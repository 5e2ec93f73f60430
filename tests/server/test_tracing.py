"""Traces as a collector receives them, by OTLP over HTTP."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from lepton.engine import OutputDelta, RequestTimings, Usage
from lepton.errors import EngineError
from lepton.telemetry.tracing import collector_from_environment, open_tracing

CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "a secret question"}]}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Keeps what it is sent, whole and parsed."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                collector.bodies.append(self._decoded(self.rfile.read(length)))
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("content-length", "0")
                self.end_headers()

            def _decoded(self, body: bytes) -> bytes:
                assert self.headers["content-type"] == "application/x-protobuf"
                assert self.headers.get("content-encoding") in (None, "identity")
                return body

            def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def spans(self) -> list[Span]:
        return [
            span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def attributes_of(span: Span) -> dict[str, Any]:
    found = {}
    for each in span.attributes:
        kind = each.value.WhichOneof("value")
        value = getattr(each.value, kind)
        found[each.key] = [v.string_value for v in value.values] if kind == "array_value" else value
    return found


async def test_a_request_is_a_span_with_its_stages_inside(
    connect: Any, engine: Any, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    timings = RequestTimings(arrived=10.0, scheduled=11.0, first_token=13.0, finished=17.0)
    engine.script = lambda prompt, params: [
        OutputDelta(
            "", 0, "a secret answer", (1,), finish_reason="stop", usage=Usage(9, 1, 4),
            timings=timings,
        )
    ]  # fmt: skip
    client = connect(otlp_endpoint=collector.endpoint)
    with caplog.at_level("INFO", "lepton.server"):
        answer = await client.post(
            "/v1/chat/completions",
            json=CHAT,
            headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "r-1"},
        )
        await client.get("/readyz")
    assert answer.status_code == 200
    client._transport.app.state.context.close()
    spans = {span.name: span for span in collector.spans()}
    assert set(spans) == {"POST /v1/chat/completions", "queue", "prefill", "decode"}
    root = spans.pop("POST /v1/chat/completions")
    assert root.kind == Span.SPAN_KIND_SERVER
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, PARENT)
    for span in spans.values():
        assert (span.trace_id, span.parent_span_id) == (root.trace_id, root.span_id)
    lengths = {
        name: round((span.end_time_unix_nano - span.start_time_unix_nano) / 1e9, 3)
        for name, span in spans.items()
    }
    assert lengths == {"queue": 1, "prefill": 2, "decode": 4}
    found = attributes_of(root)
    assert found["http.response.status_code"] == 200
    assert found["gen_ai.request.model"] == "scripted"
    assert (found["gen_ai.usage.output_tokens"], found["lepton.cached_tokens"]) == (1, 4)
    assert found["gen_ai.response.finish_reasons"] == ["stop"]
    assert found["lepton.request_id"] == "r-1"
    assert not any(b"secret" in body for body in collector.bodies)
    (logged,) = [each.fields for each in caplog.records if each.message == "request"]
    assert logged["trace_id"] == TRACE


async def test_a_failure_is_marked(connect: Any, engine: Any, collector: Collector) -> None:
    engine.refusal = EngineError("secret detail")
    client = connect(otlp_endpoint=collector.endpoint)
    assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 500
    client._transport.app.state.context.close()
    (span,) = collector.spans()
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert attributes_of(span)["error.type"] == "internal_error"
    assert not any(b"secret" in body for body in collector.bodies)


def test_a_collector_that_never_answers_does_not_hold_up_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        tracing = open_tracing(endpoint, "1")
        tracing.request("GET /", time.monotonic(), [], headers={}, attributes={})
        tracing.close()
        connection, _ = silent.accept()
        with connection:
            names = [thread.name for thread in threading.enumerate()]
            assert "lepton-tracing-close" in names, "it goes on in a thread that nobody waits for"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318"}, "http://otel:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel/base/"}, "http://otel/base/v1/traces"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4317",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            None,
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318", "OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "otel:4318"}, None),
    ],
)
def test_the_collector_of_all_signals(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str | None
) -> None:
    for name in ("ENDPOINT", "PROTOCOL", "TRACES_PROTOCOL"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    monkeypatch.delenv("OTEL_TRACES_EXPORTER", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert collector_from_environment() == expected


@pytest.mark.parametrize("chosen", [None, "shop-assistant"])
def test_the_environment_may_name_the_service(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, chosen: str | None
) -> None:
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    if chosen is not None:
        monkeypatch.setenv("OTEL_SERVICE_NAME", chosen)
    tracing = open_tracing(collector.endpoint, "1")
    tracing.request("GET /", time.monotonic(), [], headers={}, attributes={})
    tracing.close()
    (body,) = collector.bodies
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert attributes["service.name"] == (chosen or "lepton")
    assert attributes["service.version"] == "1"
