"""One process at a time, for what a run leaves on disk."""

from __future__ import annotations

import fcntl
from pathlib import Path

from lepton.errors import ConfigurationError


def lock(descriptor: int, path: Path, results: str) -> None:
    """Lock an open file or folder until its descriptor is closed.

    ``results`` says in a word what the run writes. Raises ConfigurationError when another process
    has the lock.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigurationError(
            f"{path} is in use: another process is writing these {results}"
        ) from None
