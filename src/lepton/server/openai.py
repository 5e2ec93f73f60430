"""The routes of the OpenAI API: https://platform.openai.com/docs/api-reference."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from lepton.server.chat import create_chat_completion
from lepton.server.completions import create_completion
from lepton.server.context import ServerContext, context_of
from lepton.server.embeddings import create_embeddings
from lepton.server.encoder_schemas import (
    ClassifyRequest,
    EmbeddingRequest,
    RerankRequest,
    ScoreRequest,
)
from lepton.server.encoders import describe
from lepton.server.ranking import classify, rerank, score
from lepton.server.responses import JsonResponse
from lepton.server.schemas import (
    ChatCompletionRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
)
from lepton.server.served_run import ServedRun
from lepton.server.tokens import detokenize, tokenize

PREFIXES = ("/v1/", "/v2/", "/tokenize", "/detokenize")
"""Addresses that need a key where keys are in use, and that close while the server drains."""


async def list_models(request: Request) -> Response:
    """The models this server has: one that generates, encoders, trained runs."""
    context = context_of(request)
    models = [_model(context)] if context.loaded else []
    encoders = context.encoders.items()
    models += [describe(name, encoder, context.created) for name, encoder in encoders]
    models += [_run(run, context.created) for run in context.runs.values()]
    return JsonResponse({"object": "list", "data": models})


async def retrieve_model(request: Request) -> Response:
    """A model by its name; names may hold slashes."""
    context = context_of(request)
    name = request.path_params["model"]
    if name in context.encoders:
        return JsonResponse(describe(name, context.encoders[name], context.created))
    for run in context.runs.values():
        if name in (run.name, run.current.name):
            return JsonResponse(_run(run, context.created))
    context.check_model(name)
    return JsonResponse(_model(context))


def _run(run: ServedRun, created: int) -> dict[str, Any]:
    """An entry in the list of models; ``root`` is the version at work."""
    return {
        "id": run.name,
        "object": "model",
        "created": created,
        "owned_by": "lepton",
        "root": run.current.name,
        "task": "classify",
        "labels": list(run.current.labels),
    }


def _model(context: ServerContext) -> dict[str, Any]:
    return {
        "id": context.model_name,
        "object": "model",
        "created": context.created,
        "owned_by": "lepton",
        "max_model_len": context.engine.context_length,
    }


def _inlined(model: type[BaseModel]) -> Any:
    """The JSON schema of ``model`` with every reference replaced by what it refers to."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolve(definitions[node["$ref"].rpartition("/")[2]])
        return {name: resolve(value) for name, value in node.items()}

    return resolve(schema)


def routes() -> APIRouter:
    """All routes under `PREFIXES`."""
    router = APIRouter()
    router.add_api_route("/v1/models", list_models, methods=["GET"])
    router.add_api_route("/v1/models/{model:path}", retrieve_model, methods=["GET"])
    for path, endpoint, schema in (
        ("/v1/chat/completions", create_chat_completion, ChatCompletionRequest),
        ("/v1/completions", create_completion, CompletionRequest),
        ("/v1/embeddings", create_embeddings, EmbeddingRequest),
        ("/v1/rerank", rerank, RerankRequest),
        ("/v2/rerank", rerank, RerankRequest),
        ("/v1/score", score, ScoreRequest),
        ("/v1/classify", classify, ClassifyRequest),
        ("/tokenize", tokenize, TokenizeRequest),
        ("/detokenize", detokenize, DetokenizeRequest),
    ):
        # The endpoints read the body themselves, so that limits come before parsing.
        content = {"application/json": {"schema": _inlined(schema)}}
        router.add_api_route(
            path,
            endpoint,
            methods=["POST"],
            openapi_extra={"requestBody": {"required": True, "content": content}},
        )
    return router
