"""Parts that the objects of several routes share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from lepton import __version__
from lepton.engine import Usage

FINGERPRINT = f"lepton-{__version__}"

Result = TypeVar("Result")


async def shaped(shape: Callable[[], Result], *, large: bool) -> Result:
    """What ``shape`` returns; where that may be large, made in a thread while streams go on."""
    return await asyncio.to_thread(shape) if large else shape()


def usage_object(usage: Usage) -> dict[str, Any]:
    """The ``usage`` of a response."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
