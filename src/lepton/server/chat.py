"""``POST /v1/chat/completions``."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lepton.engine import OutputDelta
from lepton.server.body import read_request
from lepton.server.context import context_of
from lepton.server.generation import Choice, Generation
from lepton.server.limits import (
    chat_params,
    check_context,
    request_options,
    usual_priority,
    within_context,
)
from lepton.server.logprobs import chat_logprobs
from lepton.server.record import record_of
from lepton.server.responses import JsonResponse
from lepton.server.schemas import ChatCompletionRequest
from lepton.server.shapes import FINGERPRINT, shaped, usage_object
from lepton.server.streaming import HEARTBEAT, EventStream, event, in_time, until_disconnect


async def create_chat_completion(request: Request) -> Response:
    """Answer a conversation, whole or as a stream of chunks."""
    context, record = context_of(request), record_of(request)
    # Before anything is read: refusing has to be cheap.
    context.engine.check_room(record.tenant, usual_priority(record.key))
    body = await read_request(request, ChatCompletionRequest, context.settings)
    context.check_model(body.model)
    record.model, record.stream = context.model_name, bool(body.stream)
    params = chat_params(body, context.settings, record.key)
    options = request_options(body, request.headers, context.settings, record)
    most = context.engine.context_length
    prompt = await in_time(request, options, context.text.chat(body.messages, most=most))
    asked = body.max_completion_tokens or body.max_tokens
    check_context(len(prompt), asked, most, param="messages")
    params = within_context(params, asked, len(prompt), most)
    generation = Generation(context, record, [prompt], params, options)
    shape = _ChatShape(context.model_name, logprobs=params.logprobs is not None)
    if body.stream:
        return EventStream(_events(generation, shape, body.include_usage), record)
    choices = await until_disconnect(request, generation.collect())
    answer = partial(shape.completion, choices, generation)
    return JsonResponse(await shaped(answer, large=params.logprobs is not None))


async def _events(
    generation: Generation, shape: _ChatShape, include_usage: bool
) -> AsyncGenerator[bytes]:
    extra = {"usage": None} if include_usage else {}
    started: set[int] = set()
    async with aclosing(generation.batches()) as batches:
        async for batch in batches:
            events = bytearray()
            for index, delta in batch:
                if index not in started:
                    started.add(index)
                    events += event(shape.chunk([shape.opening(index)]) | extra)
                for choice in shape.deltas(index, delta):
                    events += event(shape.chunk([choice]) | extra)
            if events or not batch:
                yield bytes(events) or HEARTBEAT
    if include_usage:
        yield event(shape.chunk([]) | {"usage": usage_object(generation.usage)})


class _ChatShape:
    """The JSON objects of one chat completion."""

    def __init__(self, model: str, *, logprobs: bool) -> None:
        self._logprobs = logprobs
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._model = model

    def completion(self, choices: list[Choice], generation: Generation) -> dict[str, Any]:
        """The whole answer."""
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [
                {
                    "index": index,
                    "message": {"role": "assistant", "content": choice.text, "refusal": None},
                    "logprobs": chat_logprobs(choice.logprobs) if self._logprobs else None,
                    "finish_reason": choice.finish_reason,
                }
                for index, choice in enumerate(choices)
            ],
            "usage": usage_object(generation.usage),
            "system_fingerprint": FINGERPRINT,
        }

    def chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """One event of the stream."""
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }

    def opening(self, index: int) -> dict[str, Any]:
        """The first choice of an index, which names the role."""
        return _choice(index, {"role": "assistant", "content": ""})

    def deltas(self, index: int, delta: OutputDelta) -> list[dict[str, Any]]:
        """New text, then the end; text may be held back while its log probabilities are not."""
        choices = []
        logprobs = chat_logprobs(delta.logprobs) if self._logprobs and delta.logprobs else None
        if delta.text or logprobs:
            choices.append(_choice(index, {"content": delta.text}, logprobs=logprobs))
        if delta.finish_reason:
            choices.append(_choice(index, {}, finish_reason=delta.finish_reason))
        return choices


def _choice(
    index: int,
    delta: dict[str, Any],
    *,
    logprobs: dict[str, Any] | None = None,
    finish_reason: str | None = None,
) -> dict[str, Any]:
    return {
        "index": index,
        "delta": delta,
        "logprobs": logprobs,
        "finish_reason": finish_reason,
    }
