"""Lepton: a large-language-model inference engine for enterprises.

Names are imported on first use, so that ``import lepton`` itself stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lepton.api import LargeLanguageModel
    from lepton.engine import LLM, SamplingParams

__version__ = "0.1.0"
__all__ = ["LLM", "LargeLanguageModel", "SamplingParams", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("LLM", "SamplingParams"):
        return getattr(import_module("lepton.engine"), name)
    if name == "LargeLanguageModel":
        return import_module("lepton.api").LargeLanguageModel
    raise AttributeError(f"module 'lepton' has no attribute {name!r}")
