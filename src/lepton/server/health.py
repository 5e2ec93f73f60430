"""What an orchestrator asks: is it alive, may it get traffic, what does it measure."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lepton.server import metrics
from lepton.server.context import ServerContext, context_of
from lepton.server.responses import JsonResponse

MOST_FAILURES, FAILING_SECONDS = 8, 30.0
"""So many failures in a row, with nothing computed in between, turn `/readyz` red until so long
after the last one; then requests try whether the engine has recovered."""


async def livez(request: Request) -> Response:
    """503 when the loop of the engine or an encoder is dead or hangs: restart the process."""
    return _answer(_problem(context_of(request)))


async def readyz(request: Request) -> Response:
    """503 while requests would be refused, or fail one after another: send traffic elsewhere."""
    context = context_of(request)
    problem = "draining" if context.admission.draining else context.admission.closed
    return _answer(problem or _problem(context) or _failing(context))


async def prometheus(request: Request) -> Response:
    """The metrics in Prometheus' text format; by key only for those who may see that."""
    context = context_of(request)
    by_key = context.admission.may_see_keys(request.headers.get("authorization"))
    return Response(
        context.metrics.exposition(by_key=by_key),
        media_type=None,
        headers={"Content-Type": metrics.CONTENT_TYPE},
    )


def _problem(context: ServerContext) -> str | None:
    return _engine_problem(context) or next(filter(None, _encoder_problems(context)), None)


def _encoder_problems(context: ServerContext) -> Iterator[str | None]:
    for name, encoder in context.encoders.items():
        if not encoder.alive:
            yield f"the loop of the encoder {name!r} is not running"
        elif (silent := encoder.seconds_in_step()) > context.settings.liveness_seconds:
            yield f"the encoder {name!r} has been in one step for {silent:.0f} seconds"


def _engine_problem(context: ServerContext) -> str | None:
    if not context.loaded:
        return None
    if not context.engine.alive:
        return "the engine's loop is not running"
    silent = context.engine.seconds_since_tick()
    if silent > context.settings.liveness_seconds:
        return f"the engine's loop has not gone round for {silent:.0f} seconds"
    return None


def _failing(context: ServerContext) -> str | None:
    if not context.loaded:
        return None
    stats = context.engine.stats()
    if stats.failures_in_row < MOST_FAILURES or stats.seconds_since_failure > FAILING_SECONDS:
        return None
    return f"the last {stats.failures_in_row} requests failed in the engine"


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
