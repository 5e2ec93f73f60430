"""Request bodies: bounded, timed, strict JSON, then a checked model."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from lepton.errors import RequestError
from lepton.server.errors import ApiError
from lepton.server.settings import ServerSettings

INLINE_BYTES = 32 * 1024
"""Larger bodies are parsed in a worker thread."""

_CODES = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "unsupported_parameter": "unsupported_parameter",
}

Schema = TypeVar("Schema", bound=BaseModel)


async def read_request(request: Request, schema: type[Schema], settings: ServerSettings) -> Schema:
    """The request's JSON body as a ``schema``.

    Raises ApiError for 408, 413 and 415, RequestError for what the JSON says.
    """
    _check_type(request)
    raw = await _read(request, settings)
    if len(raw) <= INLINE_BYTES:
        return _parse(raw, schema)
    return await asyncio.to_thread(_parse, raw, schema)


def _check_type(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        # Also keeps web pages of other origins out: they cannot send this type unasked.
        raise ApiError(
            415,
            "The body must be JSON, sent with 'Content-Type: application/json'.",
            code="unsupported_media_type",
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ApiError(
            415, "Compressed request bodies are not supported.", code="unsupported_encoding"
        )


async def _read(request: Request, settings: ServerSettings) -> bytes:
    limit = settings.max_body_bytes
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise ApiError(
            408,
            f"The body did not arrive within {settings.body_seconds:g} seconds.",
            code="request_timeout",
            headers={"Connection": "close"},
        ) from None
    return bytes(body)


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413, f"The body is larger than the limit of {limit:,} bytes.", code="body_too_large"
    )


def _parse(raw: bytes, schema: type[Schema]) -> Schema:
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise RequestError(
            f"The body is not valid JSON in UTF-8: {error.msg} (line {error.lineno}, column "
            f"{error.colno}).",
            code="invalid_json",
        ) from None
    if not isinstance(content, dict):
        raise RequestError("The body must be a JSON object.", code="invalid_type")
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise _explain(error) from None


def _explain(error: ValidationError) -> RequestError:
    problem = error.errors(include_url=False, include_input=False)[0]
    location: tuple[int | str, ...] = problem["loc"]
    context: dict[str, Any] = problem.get("ctx", {})
    field = context.get("field")
    param = _param((*location, field) if field else location)
    kind = problem["type"]
    match kind:
        case "missing":
            message = f"The field {param!r} is missing."
        case "extra_forbidden":
            message = f"The field {param!r} is not known."
        case "unsupported_parameter" | "invalid_value":
            message = problem["msg"]
        case _:
            message = f"The field {param!r} is not valid: {problem['msg']}."
    invalid = "invalid_type" if kind.endswith("_type") else "invalid_value"
    return RequestError(message, param=param, code=_CODES.get(kind, invalid))


def _param(location: tuple[int | str, ...]) -> str:
    """``("messages", 0, "role")`` as ``messages[0].role``."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part[:80]}" if text else part[:80]
    return text
