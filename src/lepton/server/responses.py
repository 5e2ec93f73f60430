"""JSON by orjson, with the field order in which it was built."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response


class JsonResponse(Response):
    """A JSON body; arrays of numpy are lists of numbers."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """``content`` as bytes."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
