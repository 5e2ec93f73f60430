"""What an orchestrator asks: is it alive, may it get traffic, what does it measure."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lepton.server import metrics
from lepton.server.context import ServerContext, context_of
from lepton.server.responses import JsonResponse


async def livez(request: Request) -> Response:
    """503 when the engine's loop is dead or hangs in a step: restart the process."""
    context = context_of(request)
    problem = _engine_problem(context)
    return _answer(problem)


async def readyz(request: Request) -> Response:
    """503 while requests would be refused: send traffic elsewhere."""
    context = context_of(request)
    problem = "draining" if context.admission.draining else context.admission.closed
    return _answer(problem or _engine_problem(context))


async def prometheus(request: Request) -> Response:
    """The metrics in Prometheus' text format."""
    return Response(
        context_of(request).metrics.exposition(),
        media_type=None,
        headers={"Content-Type": metrics.CONTENT_TYPE},
    )


def _engine_problem(context: ServerContext) -> str | None:
    if not context.loaded:
        return None
    if not context.engine.alive:
        return "the engine's loop is not running"
    silent = context.engine.seconds_since_tick()
    if silent > context.settings.liveness_seconds:
        return f"the engine's loop has not gone round for {silent:.0f} seconds"
    return None


def _answer(problem: str | None) -> Response:
    if problem is None:
        return JsonResponse({"status": "ok"})
    return JsonResponse({"status": "failed", "reason": problem}, status_code=503)


def routes() -> APIRouter:
    """``/livez``, ``/readyz`` and ``/metrics``; open to everyone who can connect."""
    router = APIRouter()
    for path, endpoint in (("/livez", livez), ("/readyz", readyz)):
        router.add_api_route(path, endpoint, methods=["GET"])
        router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)
    router.add_api_route("/metrics", prometheus, methods=["GET"])
    return router
