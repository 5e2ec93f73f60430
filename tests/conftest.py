"""Fixtures that several rooms share: the real models."""

from __future__ import annotations

from pathlib import Path

import pytest

from lepton.models import catalogue


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """SmolLM2-135M-Instruct as GGUF, downloaded into the cache on first use."""
    return catalogue.pull("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def gemma3_path() -> Path:
    """Gemma 3 270M (base) as GGUF, downloaded into the cache on first use."""
    return catalogue.pull("gemma-3-270m")
