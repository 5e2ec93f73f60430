"""What every route needs, made once per application."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import Request

from lepton.errors import RequestError
from lepton.server.admission import Admission
from lepton.server.metrics import Metrics
from lepton.server.settings import ServerSettings
from lepton.server.text import TextWorker

if TYPE_CHECKING:
    from lepton.engine import AsyncEngine


@dataclass(frozen=True)
class ServerContext:
    """One application's engine, settings and instruments."""

    engine: AsyncEngine
    settings: ServerSettings
    model_name: str
    admission: Admission
    metrics: Metrics
    text: TextWorker
    created: int = field(default_factory=lambda: int(time.time()))

    def check_model(self, name: str | None) -> None:
        """Raise RequestError ``model_not_found`` unless ``name`` is served here (or None)."""
        if name is not None and name != self.model_name:
            shown = name if len(name) <= 80 else name[:80] + "…"
            raise RequestError(
                f"The model {shown!r} does not exist here; this server has {self.model_name!r}.",
                param="model",
                code="model_not_found",
            )


def context_of(request: Request) -> ServerContext:
    """The context of the application that handles ``request``."""
    context: ServerContext = request.app.state.context
    return context
