"""From a request's fields to sampling parameters, within the server's and the key's limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from lepton.engine import RequestOptions, SamplingParams
from lepton.errors import RequestError
from lepton.security import ApiKey
from lepton.server.record import RequestRecord
from lepton.server.schemas import ChatCompletionRequest, CompletionRequest, GenerationRequest
from lepton.server.settings import ServerSettings

TIMEOUT_HEADER = "x-request-timeout"
COMPLETION_MAX_TOKENS = 16
"""What ``/v1/completions`` generates when not told, as in the OpenAI API."""


def completion_params(
    body: CompletionRequest, settings: ServerSettings, key: ApiKey | None
) -> SamplingParams:
    """Parameters for each prompt of a completion request; RequestError above a limit."""
    prompts = len(body.prompt)
    _at_most("prompt", "prompts", prompts, settings.max_prompts)
    _at_most(
        "n", "completions (prompts times n)", prompts * (body.n or 1), settings.max_completions
    )
    _at_most("logprobs", "log probabilities", body.logprobs or 0, settings.max_top_logprobs)
    limit = _max_tokens("max_tokens", body.max_tokens, settings, key)
    if body.max_tokens is None:
        limit = COMPLETION_MAX_TOKENS if limit is None else min(COMPLETION_MAX_TOKENS, limit)
    return _params(body, settings, limit, body.logprobs)


def chat_params(
    body: ChatCompletionRequest, settings: ServerSettings, key: ApiKey | None
) -> SamplingParams:
    """Parameters for a chat request; RequestError above a limit."""
    _at_most("messages", "messages", len(body.messages), settings.max_messages)
    _at_most("top_logprobs", "log probabilities", body.top_logprobs or 0, settings.max_top_logprobs)
    name = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    max_tokens = _max_tokens(name, getattr(body, name), settings, key)
    return _params(body, settings, max_tokens, (body.top_logprobs or 0) if body.logprobs else None)


def usual_priority(key: ApiKey | None) -> int:
    """The priority of requests that name none."""
    return key.priority if key else 0


def request_options(
    body: GenerationRequest,
    headers: Mapping[str, str],
    settings: ServerSettings,
    record: RequestRecord,
) -> RequestOptions:
    """Whose the request is, how urgent, and how long it may take.

    The seconds come from the field ``timeout``, else the header `TIMEOUT_HEADER`, and are at most
    `ServerSettings.request_seconds`. Raises RequestError when the header is no number above 0.
    """
    key = record.key
    priority = usual_priority(key) if body.priority is None else body.priority
    if key is not None:
        priority = max(priority, key.priority)
    asked = body.timeout
    if asked is None and TIMEOUT_HEADER in headers:
        asked = _seconds(headers[TIMEOUT_HEADER])
    timeouts = (asked, settings.request_seconds)
    salt = body.cache_salt
    return RequestOptions(
        tenant=record.tenant,
        priority=priority,
        cache_salt=None if salt is None else f"{record.tenant} {salt}",
        queue_timeout=settings.max_queue_seconds,
        timeout=min((value for value in timeouts if value is not None), default=None),
        since=record.started,
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise RequestError(
            f"The header {TIMEOUT_HEADER} must be a number of seconds above 0.",
            param=TIMEOUT_HEADER,
            code="invalid_value",
        )
    return value


def check_context(
    prompt_tokens: int, max_tokens: int | None, context_length: int, *, param: str
) -> None:
    """Raise RequestError ``context_length_exceeded`` unless prompt and completion fit.

    ``max_tokens`` is what the request itself says; None means as much as there is room for.
    ``param`` is the field that holds the prompt.
    """
    asked = 1 if max_tokens is None else max_tokens
    if prompt_tokens + asked > context_length:
        lower = prompt_tokens < context_length
        raise RequestError(
            f"The context holds {context_length} tokens. This request needs {prompt_tokens} for "
            f"{param!r} and {asked} for the completion: "
            + ("lower 'max_tokens'." if lower else f"shorten {param!r}."),
            param="max_tokens" if lower else param,
            code="context_length_exceeded",
        )


def within_context(
    params: SamplingParams, asked: int | None, prompt_tokens: int, context_length: int
) -> SamplingParams:
    """The parameters with no more tokens than there is room for, where the request says nothing.

    ``asked`` is what the request itself says.
    """
    if asked is not None or params.max_tokens is None:
        return params
    return replace(params, max_tokens=min(params.max_tokens, context_length - prompt_tokens))


def _max_tokens(
    name: str, asked: int | None, settings: ServerSettings, key: ApiKey | None
) -> int | None:
    limits = (settings.max_tokens, key.limits.max_tokens if key else None)
    limit = min((value for value in limits if value is not None), default=None)
    if limit is not None and asked is not None:
        _at_most(name, "tokens", asked, limit)
    return limit if asked is None else asked


def _params(
    body: GenerationRequest,
    settings: ServerSettings,
    max_tokens: int | None,
    logprobs: int | None,
) -> SamplingParams:
    _at_most("n", "completions", body.n or 1, settings.max_n)
    stop = tuple(body.stop or ())
    _at_most("stop", "stop strings", len(stop), settings.max_stop)
    _at_most("stop_token_ids", "stop ids", len(body.stop_token_ids or ()), settings.max_stop)
    _at_most(
        "stop",
        "characters in a stop string",
        max(map(len, stop), default=0),
        settings.max_stop_characters,
    )
    given = {
        name: value
        for name in (
            "temperature", "top_p", "top_k", "min_p", "n", "seed", "presence_penalty",
            "frequency_penalty", "repetition_penalty", "min_tokens", "ignore_eos",
        )
        if (value := getattr(body, name)) is not None
    }  # fmt: skip
    return SamplingParams(
        max_tokens=max_tokens,
        stop=stop,
        stop_token_ids=tuple(body.stop_token_ids or ()),
        logprobs=logprobs,
        **given,
    )


def _at_most(param: str, what: str, value: int, limit: int) -> None:
    if value > limit:
        raise RequestError(
            f"{param!r} asks for {value} {what}; this server allows at most {limit}.",
            param=param,
            code="limit_exceeded",
        )
