"""Models: architectures as typed stages, weight formats, tokenizers, catalogue and executors.

Names are imported on first use, so that a part (the catalogue, say) does not load the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lepton.models.config import ModelConfig
    from lepton.models.executors import Batch, Executor, build_executor
    from lepton.models.loader import Model, Network, load_model, load_network

__all__ = [
    "Batch",
    "Executor",
    "Model",
    "ModelConfig",
    "Network",
    "build_executor",
    "load_model",
    "load_network",
]

_MODULES = {
    "Batch": "executors",
    "Executor": "executors",
    "Model": "loader",
    "ModelConfig": "config",
    "Network": "loader",
    "build_executor": "executors",
    "load_model": "loader",
    "load_network": "loader",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
