"""Settings that come from the environment, read when they are asked for."""

from __future__ import annotations

import os
from pathlib import Path

from lepton.errors import ConfigurationError

DEFAULT_MODEL = "smollm2-135m-instruct"
"""Catalogue name of the model that is served when none is named."""


def cache_directory() -> Path:
    """The folder for everything Lepton downloads: ``LEPTON_HOME`` or ``~/.cache/lepton``.

    The folder itself may not exist yet.

    Raises:
        ConfigurationError: neither ``LEPTON_HOME`` nor a home directory is known.
    """
    chosen = os.environ.get("LEPTON_HOME")
    try:
        return (Path(chosen) if chosen else Path("~/.cache/lepton")).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigurationError(
            "no home directory is known; set LEPTON_HOME to a folder for downloaded models"
        ) from error


def models_directory() -> Path:
    """The folder with one sub-folder for each downloaded model."""
    return cache_directory() / "models"


def debugging() -> bool:
    """Whether ``LEPTON_DEBUG`` asks for tracebacks."""
    return os.environ.get("LEPTON_DEBUG", "") not in ("", "0")
