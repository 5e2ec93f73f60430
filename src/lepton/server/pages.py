"""The web page and its files, from the package itself."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

WEB = Path(__file__).parent / "web"


class PageFiles(StaticFiles):
    """Static files that browsers ask about again each time, so that an update shows at once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, or 304 when the browser has it."""
        response = await super().get_response(path, scope)
        response.headers.setdefault("Cache-Control", "no-cache")
        return response


async def index(request: Request) -> Response:  # noqa: ARG001
    """The playground."""
    return FileResponse(WEB / "index.html", headers={"Cache-Control": "no-cache"})


def add_pages(app: FastAPI) -> None:
    """Serve ``/`` and ``/web/``."""
    app.add_api_route("/", index, methods=["GET", "HEAD"], include_in_schema=False)
    app.mount("/web", PageFiles(directory=WEB), name="web")
