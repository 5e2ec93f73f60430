"""Fixtures that several rooms share: the real models."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from lepton.models import catalogue
from lepton.telemetry.logging import ROOTS

# A busy machine must not fail a test.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    """A command run in this process must not leave its log to the tests after it."""
    loggers = [logging.getLogger(name) for name in ROOTS]
    before = [([*each.handlers], each.level, each.propagate) for each in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """SmolLM2-135M-Instruct as GGUF, downloaded into the cache on first use."""
    return catalogue.pull("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def gemma3_path() -> Path:
    """Gemma 3 270M (base) as GGUF, downloaded into the cache on first use."""
    return catalogue.pull("gemma-3-270m")
