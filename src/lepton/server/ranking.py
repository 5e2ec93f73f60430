"""``POST /v1/rerank``, ``POST /v1/score`` and ``POST /v1/classify``."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from lepton.engine import Encoded
from lepton.errors import RequestError
from lepton.server.body import read_request
from lepton.server.context import context_of
from lepton.server.encoder_schemas import ClassifyRequest, RerankRequest, ScoreRequest
from lepton.server.encoders import find_encoder
from lepton.server.record import record_of
from lepton.server.responses import JsonResponse
from lepton.server.served_run import ServedRun
from lepton.server.streaming import until_disconnect
from lepton.training.run import split_name

if TYPE_CHECKING:
    from lepton.models.encoder import EncoderConfig

_LIKELY = 0.5
"""What a label is given from where several may hold, unless the request has a threshold."""


async def rerank(request: Request) -> Response:
    """Documents by how well they answer a query, best first."""
    body = await read_request(request, RerankRequest, context_of(request).settings)
    name, encoder = find_encoder(request, body.model, "rank", "embed")
    pairs = [(body.query, document) for document in body.documents]
    encoded = await until_disconnect(request, encoder.score(pairs))
    order = np.argsort(-encoded.values, kind="stable")[: body.top_n].tolist()
    results: list[dict[str, Any]] = [
        {"index": index, "relevance_score": float(encoded.values[index])} for index in order
    ]
    if body.return_documents:
        for result in results:
            result["document"] = {"text": body.documents[result["index"]]}
    return _answer(request, name, encoded, "rerank", {"results": results})


async def score(request: Request) -> Response:
    """How well the texts of each pair go together."""
    body = await read_request(request, ScoreRequest, context_of(request).settings)
    name, encoder = find_encoder(request, body.model, "rank", "embed")
    first = body.text_1 * len(body.text_2) if len(body.text_1) == 1 else body.text_1
    pairs = list(zip(first, body.text_2, strict=True))
    encoded = await until_disconnect(request, encoder.score(pairs))
    data = [
        {"index": index, "object": "score", "score": value}
        for index, value in enumerate(encoded.values.tolist())
    ]
    return _answer(request, name, encoded, "score", {"object": "list", "data": data})


async def classify(request: Request) -> Response:
    """The likeliest label of each text, or null below the threshold, and all probabilities.

    Where labels hold independently of one another there are also all those at the threshold or
    above. A model of a regression gives values, and no label.
    """
    body = await read_request(request, ClassifyRequest, context_of(request).settings)
    run = _find_run(request, body.model)
    if run is not None:
        return await _classify_by_run(request, run, body)
    name, encoder = find_encoder(request, body.model, "classify")
    encoded = await until_disconnect(request, encoder.classify(body.input))
    data = [
        {"index": index, **_classified(encoder.model.config, row, body.threshold)}
        for index, row in enumerate(encoded.values.tolist())
    ]
    return _answer(request, name, encoded, "classify", {"object": "list", "data": data})


def _classified(
    config: EncoderConfig, row: Sequence[float], threshold: float | None
) -> dict[str, Any]:
    """A text's entry: the likeliest label, and all that are likely where several may hold."""
    scores = dict(zip(config.labels, row, strict=True))
    best: str | None = max(scores, key=scores.__getitem__)
    least = threshold or 0.0
    if config.problem_type == "regression" or max(row) < least:
        best = None
    entry: dict[str, Any] = {"label": best}
    if config.problem_type == "multi_label_classification":
        likely = _LIKELY if threshold is None else threshold
        entry["labels"] = [label for label, score in scores.items() if score >= likely]
    return {**entry, "probs": row, "num_classes": len(scores), "scores": scores}


def _find_run(request: Request, name: str | None) -> ServedRun | None:
    """The run of that name, with or without a version, or the only one; None: it is no run.

    Raises RequestError when there are several to choose from.
    """
    runs = context_of(request).runs
    if name is not None:
        return runs.get(split_name(name)[0])
    if len(runs) > 1:
        raise RequestError(
            f"Give one of this server's runs as 'model': {', '.join(runs)}.",
            param="model",
            code="model_not_found",
        )
    return next(iter(runs.values()), None)


async def _classify_by_run(request: Request, run: ServedRun, body: ClassifyRequest) -> Response:
    """As `classify`, by a trained run: its decision, which may be several labels or none."""
    version = None if body.model is None else split_name(body.model)[1]
    answer = await until_disconnect(request, run.classify(body.input, version, body.threshold))
    labels = answer.model.labels
    data: list[dict[str, Any]] = []
    for index, prediction in enumerate(answer.predictions):
        entry: dict[str, Any] = {
            "index": index,
            **answer.model.describe(prediction),
        }
        if answer.probabilities is not None:
            row = answer.probabilities[index].tolist()
            entry |= {
                "probs": row,
                "num_classes": len(labels),
                "scores": dict(zip(labels, row, strict=True)),
            }
        data.append(entry)
    record_of(request).model = answer.model.name
    return JsonResponse(
        {
            "id": f"classify-{uuid.uuid4().hex}",
            "object": "list",
            "model": answer.model.name,
            "created": context_of(request).created,
            "data": data,
        }
    )


def _answer(
    request: Request, name: str, encoded: Encoded, kind: str, content: dict[str, Any]
) -> Response:
    record = record_of(request)
    record.model, record.prompt_tokens = name, encoded.num_tokens
    tokens = encoded.num_tokens
    return JsonResponse(
        {
            "id": f"{kind}-{uuid.uuid4().hex}",
            "model": name,
            "created": context_of(request).created,
            **content,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )
