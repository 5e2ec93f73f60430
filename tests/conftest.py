"""Fixtures that several rooms share: the real models."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from lepton.models import catalogue

# A busy machine must not fail a test.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """SmolLM2-135M-Instruct as GGUF, downloaded into the cache on first use."""
    return catalogue.pull("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def gemma3_path() -> Path:
    """Gemma 3 270M (base) as GGUF, downloaded into the cache on first use."""
    return catalogue.pull("gemma-3-270m")
