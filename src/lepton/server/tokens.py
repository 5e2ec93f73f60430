"""``POST /tokenize`` and ``POST /detokenize``, shaped as vLLM's."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lepton.server.body import read_request
from lepton.server.context import context_of
from lepton.server.responses import JsonResponse
from lepton.server.schemas import DetokenizeRequest, TokenizeRequest
from lepton.server.streaming import until_disconnect


async def tokenize(request: Request) -> Response:
    """Token ids of a text, or of messages as the chat template writes them."""
    context = context_of(request)
    body = await read_request(request, TokenizeRequest, context.settings)
    context.check_model(body.model)
    if body.messages is not None:
        encoding = context.text.chat(
            body.messages, add_generation_prompt=body.add_generation_prompt
        )
    else:
        encoding = context.text.prompt(
            body.prompt or "", add_special_tokens=body.add_special_tokens
        )
    tokens = await until_disconnect(request, encoding)
    answer: dict[str, Any] = {
        "count": len(tokens),
        "max_model_len": context.engine.context_length,
        "tokens": tokens,
    }
    if body.return_token_strs:
        answer["token_strs"] = await context.text.token_texts(tokens)
    return JsonResponse(answer)


async def detokenize(request: Request) -> Response:
    """The text of token ids."""
    context = context_of(request)
    body = await read_request(request, DetokenizeRequest, context.settings)
    context.check_model(body.model)
    text = await context.text.decode(body.tokens, skip_special_tokens=body.skip_special_tokens)
    return JsonResponse({"prompt": text})
