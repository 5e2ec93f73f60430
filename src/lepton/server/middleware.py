"""What surrounds every route, as plain ASGI so that streams and disconnects pass unchanged."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterable
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lepton.errors import LeptonError
from lepton.server.admission import Admission
from lepton.server.errors import ApiError, as_api_error
from lepton.server.metrics import Metrics
from lepton.server.record import RequestRecord
from lepton.telemetry import log_event
from lepton.telemetry.tracing import Tracing

_log = logging.getLogger("lepton.server")

REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
CLIENT_CLOSED = 499
REFUSALS = frozenset({401, 429, 503})
QUIET_ROUTES = frozenset({"/livez", "/readyz", "/metrics"})

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class RequestScope:
    """Outermost: gives the request its id and record, logs and counts it, stops tracebacks."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, tracing: Tracing | None) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other protocols pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord(_request_id(Headers(scope=scope)))
        scope.setdefault("state", {})["record"] = record
        status: int | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = record.id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            record.disconnected = True
        except Exception as error:
            _log.exception("request failed", extra={"fields": {"request_id": record.id}})
            if status is None:
                failure = as_api_error(error)
                record.error_code = failure.code
                await failure.response()(scope, receive, send_with_headers)
        finally:
            if record.disconnected and status is None:
                status = CLIENT_CLOSED
            self._finish(scope, record, status or 500)

    def _finish(self, scope: Scope, record: RequestRecord, status: int) -> None:
        route = _route(scope)
        seconds = record.seconds()
        self._metrics.http_request(scope["method"], route, status, seconds)
        late = record.error_status in REFUSALS and record.first_token_seconds is None
        refusal = record.error_code if status in REFUSALS or late else None
        if refusal:
            self._metrics.refused(refusal)
        if record.for_api:
            self._metrics.keys.request(record, refusal)
        trace = None
        if self._tracing is not None and route not in QUIET_ROUTES:
            trace = self._trace(self._tracing, scope, record, status)
        log_event(
            _log,
            logging.DEBUG if route in QUIET_ROUTES else logging.INFO,
            "request",
            request_id=record.id,
            method=scope["method"],
            route=route,
            status=status,
            seconds=round(seconds, 4),
            key=record.tenant,
            model=record.model,
            stream=record.stream,
            prompt_tokens=record.prompt_tokens,
            cached_tokens=record.cached_tokens,
            completion_tokens=record.completion_tokens,
            first_token_seconds=record.first_token_seconds,
            finish_reasons=record.finish_reasons or None,
            error=record.error_code,
            disconnected=record.disconnected or None,
            trace_id=trace,
        )

    @staticmethod
    def _trace(tracing: Tracing, scope: Scope, record: RequestRecord, status: int) -> str:
        route = _route(scope)
        return tracing.request(
            f"{scope['method']} {route}",
            record.started,
            record.stages,
            headers=Headers(scope=scope),
            attributes={
                "http.request.method": scope["method"],
                "http.route": route,
                "http.response.status_code": status,
                "lepton.request_id": record.id,
                "lepton.key": record.tenant,
                "gen_ai.request.model": record.model,
                "gen_ai.usage.input_tokens": record.prompt_tokens,
                "gen_ai.usage.output_tokens": record.completion_tokens,
                "gen_ai.response.finish_reasons": record.finish_reasons or None,
                "lepton.cached_tokens": record.cached_tokens,
                "lepton.first_token_seconds": record.first_token_seconds,
                "lepton.preemptions": record.preemptions or None,
                "lepton.draft_tokens": record.draft_tokens or None,
                "lepton.accepted_tokens": record.accepted_tokens or None,
                "error.type": record.error_code,
            },
            error=record.error_code if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None,
        )


class HostGuard:
    """Refuses unknown Host headers.

    A server on a loopback address without keys is within reach of every page its user opens, by
    DNS rebinding: the page's own host name is made to point to 127.0.0.1. The Host header still
    carries that name.
    """

    def __init__(self, app: ASGIApp, *, allowed: Iterable[str]) -> None:
        self._app = app
        self._allowed = frozenset(host.lower() for host in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 unless the request names an allowed host."""
        if scope["type"] == "http":
            host = _host_name(Headers(scope=scope).get("host", ""))
            if host not in self._allowed:
                refusal = ApiError(
                    403,
                    "This server answers only to its own host names. Behind a proxy, add the "
                    "proxy's name to the allowed hosts, or use API keys.",
                    code="host_not_allowed",
                )
                await refusal.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Gate:
    """Lets API requests in by key, limit and time; holds their place until they have ended."""

    def __init__(self, app: ASGIApp, *, admission: Admission, prefixes: tuple[str, ...]) -> None:
        self._app = app
        self._admission = admission
        self._prefixes = prefixes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, 429 or 503, or let the request through."""
        if scope["type"] != "http" or not scope["path"].startswith(self._prefixes):
            await self._app(scope, receive, send)
            return
        record: RequestRecord = scope["state"]["record"]
        record.for_api = True
        entered = False
        try:
            record.key = self._admission.authenticate(Headers(scope=scope).get("authorization"))
            scope["state"]["tenant"] = record.tenant
            with self._admission.enter(record.key, counted=scope["method"] == "POST"):
                entered = True
                await self._app(scope, receive, send)
        except LeptonError as error:
            if entered:
                raise
            refusal = as_api_error(error)
            record.error_code = refusal.code
            await refusal.response()(scope, receive, send)


def _route(scope: Scope) -> str:
    """The pattern that matched, the folder of a static file, or ``other``."""
    return getattr(scope.get("route"), "path", None) or scope.get("root_path") or "other"


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else f"req-{uuid.uuid4().hex}"


def _host_name(header: str) -> str:
    name, bracket, _ = header.partition("]")
    host = name + bracket if bracket else header.rpartition(":")[0] or header
    return host.lower()
