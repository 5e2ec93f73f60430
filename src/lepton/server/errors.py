"""Errors as the OpenAI API shapes them: ``{"error": {message, type, param, code}}``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException

from lepton.errors import CapacityError, LeptonError, RequestError, UnavailableError
from lepton.server.responses import JsonResponse

UNAVAILABLE_RETRY_SECONDS = 5.0
_NOT_FOUND_CODES = frozenset({"model_not_found"})


class ApiError(LeptonError):
    """An error with everything its response needs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON object; also sent as an event when a stream fails on its way."""
        return {
            "error": {
                "message": str(self),
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JsonResponse:
        """The whole HTTP response."""
        return JsonResponse(self.body(), status_code=self.status, headers=self.headers)


def too_late(seconds: float) -> ApiError:
    """The error of a request that had no answer within the time that it may take."""
    return ApiError(
        504,
        f"The request had no answer within its timeout of {seconds:g} seconds.",
        kind="server_error",
        code="timeout",
    )


def as_api_error(error: BaseException) -> ApiError:
    """The answer to any exception. What is not meant for clients becomes a bare 500."""
    match error:
        case ApiError():
            return error
        case RequestError():
            status = 404 if error.code in _NOT_FOUND_CODES else 400
            return ApiError(
                status, str(error), param=error.param, code=error.code or "invalid_value"
            )
        case CapacityError():
            return ApiError(
                429,
                str(error),
                kind="rate_limit_error",
                code="rate_limit_exceeded",
                headers=_retry_after(error.retry_after),
            )
        case UnavailableError():
            return ApiError(
                503,
                str(error),
                kind="server_error",
                code="unavailable",
                headers=_retry_after(UNAVAILABLE_RETRY_SECONDS),
            )
        case HTTPException():
            return _from_http(error)
        case _:
            return ApiError(
                500,
                "The server failed to answer this request; its log tells more under the id in "
                "the X-Request-Id header.",
                kind="server_error",
                code="internal_error",
            )


def _from_http(error: HTTPException) -> ApiError:
    status = error.status_code
    messages = {
        404: "There is nothing at this address.",
        405: "This address does not take this HTTP method.",
    }
    codes = {404: "not_found", 405: "method_not_allowed"}
    return ApiError(
        status,
        messages.get(status, str(error.detail)),
        kind="invalid_request_error" if status < 500 else "server_error",
        code=codes.get(status, HTTPStatus(status).phrase.lower().replace(" ", "_")),
        headers=error.headers,
    )


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(seconds)))}
