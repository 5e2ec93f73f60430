"""``POST /v1/completions``."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lepton.engine import OutputDelta, TokenChance, TokenLogprob
from lepton.errors import RequestError
from lepton.server.body import read_request
from lepton.server.context import ServerContext, context_of
from lepton.server.generation import Choice, Generation
from lepton.server.limits import (
    check_context,
    completion_params,
    request_options,
    usual_priority,
    within_context,
)
from lepton.server.logprobs import CompletionLogprobs
from lepton.server.record import record_of
from lepton.server.responses import JsonResponse
from lepton.server.schemas import CompletionRequest
from lepton.server.shapes import FINGERPRINT, shaped, usage_object
from lepton.server.streaming import HEARTBEAT, EventStream, event, in_time, until_disconnect


async def create_completion(request: Request) -> Response:
    """Continue prompts, whole or as a stream of chunks."""
    context, record = context_of(request), record_of(request)
    # Before anything is read: refusing has to be cheap.
    context.engine.check_room(record.tenant, usual_priority(record.key))
    body = await read_request(request, CompletionRequest, context.settings)
    context.check_model(body.model)
    record.model, record.stream = context.model_name, bool(body.stream)
    params = completion_params(body, context.settings, record.key)
    options = request_options(body, request.headers, context.settings, record)
    most = context.engine.context_length
    prompts = await in_time(request, options, _tokens(context, body, most))
    for prompt in prompts:
        if not prompt:
            raise RequestError("'prompt' has no tokens.", param="prompt", code="invalid_value")
        check_context(len(prompt), body.max_tokens, most, param="prompt")
    params = within_context(params, body.max_tokens, max(map(len, prompts)), most)
    logprobs = params.logprobs is not None
    echoes = await _echoes(context, body, prompts) if body.echo else None
    generation = Generation(
        context, record, prompts, params, options, echo_logprobs=logprobs and echoes is not None
    )
    shape = _CompletionShape(context, generation, params.n, echoes, logprobs=logprobs)
    if body.stream:
        return EventStream(_events(generation, shape, body.include_usage), record)
    return JsonResponse(await until_disconnect(request, shape.completion()))


async def _tokens(context: ServerContext, body: CompletionRequest, most: int) -> list[list[int]]:
    return [await context.text.prompt(prompt, most=most) for prompt in body.prompt]


async def _events(
    generation: Generation, shape: _CompletionShape, include_usage: bool
) -> AsyncGenerator[bytes]:
    extra = {"usage": None} if include_usage else {}
    async with aclosing(generation.batches()) as batches:
        async for batch in batches:
            events = bytearray()
            for index, delta in batch:
                choice = shape.next_part(
                    index, delta.text, delta.logprobs or (), delta.finish_reason
                )
                if _worth_sending(choice, delta):
                    events += event(shape.answer([choice]) | extra)
            if events or not batch:
                yield bytes(events) or HEARTBEAT
    if include_usage:
        yield event(shape.answer([]) | {"usage": usage_object(generation.usage)})


def _worth_sending(choice: dict[str, Any], delta: OutputDelta) -> bool:
    logprobs = choice["logprobs"]
    return bool(choice["text"] or delta.finish_reason or (logprobs and logprobs["tokens"]))


@dataclass(frozen=True)
class _Echo:
    """A prompt as it is given back."""

    text: str
    first_token: TokenChance
    """Nothing comes before it, so it has no log probability."""


async def _echoes(
    context: ServerContext, body: CompletionRequest, prompts: Sequence[Sequence[int]]
) -> list[_Echo]:
    tokenizer = context.engine.tokenizer
    echoes = []
    for given, token_ids in zip(body.prompt, prompts, strict=True):
        text = given if isinstance(given, str) else await context.text.decode(token_ids)
        first = token_ids[0]
        chance = TokenChance(first, tokenizer.token_text(first), tokenizer.token_bytes(first), 0.0)
        echoes.append(_Echo(text, chance))
    return echoes


class _CompletionShape:
    """The JSON objects of one completion request."""

    def __init__(
        self,
        context: ServerContext,
        generation: Generation,
        n: int,
        echoes: list[_Echo] | None,
        *,
        logprobs: bool,
    ) -> None:
        self._generation = generation
        self._n = n
        self._echoes = echoes
        self._begun: set[int] = set()
        special = context.engine.tokenizer.special_token_ids
        self._logprobs = (
            [CompletionLogprobs(special) for _ in range(generation.choices)] if logprobs else None
        )
        self._id = f"cmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._model = context.model_name

    async def completion(self) -> dict[str, Any]:
        """The whole answer, when it is complete."""
        collected = await self._generation.collect()
        choices = await shaped(partial(self._choices, collected), large=self._logprobs is not None)
        return self.answer(choices) | {"usage": usage_object(self._generation.usage)}

    def _choices(self, collected: Sequence[Choice]) -> list[dict[str, Any]]:
        return [
            self.next_part(index, choice.text, choice.logprobs, choice.finish_reason)
            for index, choice in enumerate(collected)
        ]

    def answer(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """The answer or one event of the stream."""
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }

    def next_part(
        self,
        index: int,
        text: str,
        logprobs: Sequence[TokenLogprob],
        finish_reason: str | None,
    ) -> dict[str, Any]:
        """The choice that carries what index gained; its first one also echoes the prompt."""
        entries: list[TokenChance] = list(logprobs)
        if self._echoes and index not in self._begun:
            number = index // self._n
            echo = self._echoes[number]
            text = echo.text + text
            of_prompt = self._generation.prompt_logprobs.get(number, ())
            entries = [*(entry or echo.first_token for entry in of_prompt), *entries]
        self._begun.add(index)
        return {
            "index": index,
            "text": text,
            "logprobs": self._logprobs[index].shape(entries) if self._logprobs else None,
            "finish_reason": finish_reason,
        }
