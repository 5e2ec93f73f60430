"""Parts that the objects of several routes share."""

from __future__ import annotations

from typing import Any

from lepton import __version__
from lepton.engine import Usage

FINGERPRINT = f"lepton-{__version__}"


def usage_object(usage: Usage) -> dict[str, Any]:
    """The ``usage`` of a response."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
