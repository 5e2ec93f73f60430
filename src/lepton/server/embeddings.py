"""``POST /v1/embeddings``."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from lepton.engine import EmbedOptions
from lepton.errors import RequestError
from lepton.server.body import read_request
from lepton.server.context import context_of
from lepton.server.encoder_schemas import EmbeddingRequest
from lepton.server.encoders import find_encoder
from lepton.server.record import record_of
from lepton.server.responses import JsonResponse
from lepton.server.streaming import until_disconnect

if TYPE_CHECKING:
    from lepton.engine import AsyncEncoder
    from lepton.models.executors.base import Float32Array

MOST_VALUES = 4 * 1024 * 1024
"""Inputs of one request times dimensions: 16 MiB as base64 is made of, some 48 MB of JSON."""
_INLINE_VALUES = 65_536
"""Larger answers are written out in a thread."""


async def create_embeddings(request: Request) -> Response:
    """Vectors of texts or of token ids, as lists of numbers or base64 of float32."""
    body = await read_request(request, EmbeddingRequest, context_of(request).settings)
    name, encoder = find_encoder(request, body.model, "embed")
    prompt_name = body.prompt_name
    if prompt_name is None:
        prompt_name = _prompt_for(encoder, body.input_type)
    options = EmbedOptions(
        prompt_name=prompt_name,
        dimensions=body.dimensions,
        normalize=body.normalize,
        long_texts=body.long_texts,
    )
    _check_values(len(body.input), body.dimensions or encoder.engine.dimensions)
    encoded = await until_disconnect(request, encoder.embed(body.input, options))
    record = record_of(request)
    record.model, record.prompt_tokens = name, encoded.num_tokens

    def respond() -> Response:
        return JsonResponse(
            {
                "object": "list",
                "data": _entries(encoded.values, body.encoding_format),
                "model": name,
                "usage": {
                    "prompt_tokens": encoded.num_tokens,
                    "total_tokens": encoded.num_tokens,
                },
            }
        )

    if encoded.values.size <= _INLINE_VALUES:
        return respond()
    return await asyncio.to_thread(respond)


def _check_values(inputs: int, dimensions: int) -> None:
    if inputs * dimensions > MOST_VALUES:
        raise RequestError(
            f"{inputs:,} inputs of {dimensions:,} dimensions are more than the {MOST_VALUES:,} "
            f"numbers of one answer: send at most {MOST_VALUES // dimensions:,} inputs at a time, "
            "or ask for fewer dimensions.",
            param="input",
            code="too_many_inputs",
        )


def _prompt_for(encoder: AsyncEncoder, purpose: str | None) -> str | None:
    if purpose is None:
        return None
    query, document = encoder.engine.retrieval_prompts
    return query if purpose == "query" else document


def _entries(vectors: Float32Array, encoding: str) -> list[dict[str, Any]]:
    if encoding == "base64":
        values: list[Any] = [
            base64.b64encode(row.astype("<f4").tobytes()).decode("ascii") for row in vectors
        ]
    else:
        values = list(vectors)
    return [
        {"object": "embedding", "index": index, "embedding": value}
        for index, value in enumerate(values)
    ]
