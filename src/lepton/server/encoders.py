"""The encoders of one server, by the names that clients give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from lepton.errors import RequestError
from lepton.server.context import context_of

if TYPE_CHECKING:
    from lepton.engine import AsyncEncoder


def find_encoder(request: Request, name: str | None, *tasks: str) -> tuple[str, AsyncEncoder]:
    """The encoder of that name, or the only one fit for one of these tasks, with its name.

    Raises RequestError ``model_not_found`` when there is none.
    """
    encoders = context_of(request).encoders
    fit = [each for each, encoder in encoders.items() if encoder.model.task in tasks]
    if name is None:
        if len(fit) == 1:
            return fit[0], encoders[fit[0]]
    elif name in encoders:
        return name, encoders[name]
    shown = "" if name is None else f"The model {name[:80]!r} is no encoder here. "
    known = [*fit, *(context_of(request).runs if "classify" in tasks else ())]
    raise RequestError(
        f"{shown}Give one that is fit as 'model': {', '.join(known) or 'none'}.",
        param="model",
        code="model_not_found",
    )


def describe(name: str, encoder: AsyncEncoder, created: int) -> dict[str, Any]:
    """An entry in the list of models."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "lepton",
        "max_model_len": encoder.engine.max_tokens,
        "task": encoder.model.task,
        "dimensions": encoder.engine.dimensions,
    }
