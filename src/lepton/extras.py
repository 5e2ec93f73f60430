"""Libraries that come with an extra of the package, imported when they are first needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from lepton.errors import ConfigurationError


def import_extra(name: str, extra: str = "data") -> Any:
    """Import ``name``, a library of the extra ``extra``.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed: pip install 'lepton-engine[{extra}]'"
        ) from error
