"""Folders of runs that are being trained."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lepton.errors import ConfigurationError, DataError, ModelFormatError, ModelNotFoundError
from lepton.files import lock
from lepton.training import run as runs

BEGUN = "begun.json"
"""What an unfinished run was begun with; a run that is begun again with the same continues it."""
_CANNOT_SUCCEED = (ConfigurationError, DataError, ModelFormatError, ModelNotFoundError)
"""Errors that the same command would meet again."""


@contextmanager
def folder_of(path: Path, begun: Mapping[str, Any]) -> Iterator[Path]:
    """The folder of a run of the name ``path``, locked while it is trained.

    One that was begun with the same is continued. A new one is gone if the training cannot succeed;
    after an interruption, or on a full disk, it stays.

    Args:
        path: name of the run.
        begun: configuration and data, as JSON.

    Raises:
        ConfigurationError: the folder cannot be written, or another process is at work on it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = next(
            (
                folder
                for folder in runs.unfinished_versions(path)
                if (folder / BEGUN).is_file()
                and runs.read_json(folder / BEGUN, runs.MAX_MANIFEST_BYTES) == begun
            ),
            None,
        )
        fresh = folder is None
        if folder is None:
            folder = runs.new_version(path)
            folder.mkdir()
            runs.write_json(folder / BEGUN, begun)
        with (folder / ".lock").open("w") as locked:
            lock(locked, f"another process is training {folder} right now")
            try:
                yield folder
            except _CANNOT_SUCCEED:
                if fresh:
                    shutil.rmtree(folder)
                raise
            (folder / ".lock").unlink(missing_ok=True)
    except OSError as error:
        raise runs.cannot_write(path, error) from error
