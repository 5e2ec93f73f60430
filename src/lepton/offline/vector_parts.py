"""The parts of a file of vectors, kept so that a run can be killed at any moment and resumed.

They lie in a folder beside the result, ``<result>.parts``, with a note that says what run they
belong to. The result says it too, so that a run that was killed after its last part is known to be
finished.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lepton.data.writing import check_free, explain_errors
from lepton.errors import ConfigurationError
from lepton.extras import import_extra
from lepton.files import lock, replaced

_RUN = b"lepton.run"
"""Where the result's Parquet metadata holds the fingerprint."""


class VectorParts:
    """The parts of one run, locked while it is open; a context manager.

    ``fingerprint`` is whatever decides the vectors and how they are cut into parts.
    """

    def __init__(self, target: Path, fingerprint: str, *, force: bool = False) -> None:
        """Find what an earlier run left.

        Raises ConfigurationError when that belongs to another run or another process has it open,
        DataError when ``target`` exists, unless forced, or the folder cannot be written.
        """
        self.path = target.with_name(f"{target.name}.parts")
        self._target = target
        self._fingerprint = fingerprint
        self.finished = self.path.is_dir() and _run_of(target) == fingerprint
        """Whether the result is whole, and only the folder is left to remove."""
        if not self.finished:
            check_free(target, force=force)
        with explain_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDONLY)
        try:
            lock(
                self._descriptor,
                f"{self.path} is in use: another process is writing these vectors",
            )
            with explain_errors(self.path):
                self.count = self._resume()
        except BaseException:
            os.close(self._descriptor)
            raise

    def add(self, columns: Mapping[str, Any]) -> None:
        """Write the next part: arrays of one length, by the names of their columns."""
        parquet = import_extra("pyarrow.parquet")
        with replaced(self._part(self.count)) as part:
            parquet.write_table(import_extra("pyarrow").table(columns), part)
        self.count += 1

    def finish(self) -> None:
        """Make the parts one file, unless that is done, and remove them."""
        if not self.finished:
            self._join()
        shutil.rmtree(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def _part(self, number: int) -> Path:
        return self.path / f"{number:08d}.parquet"

    def _resume(self) -> int:
        """Number of whole parts that an earlier run of the same kind left."""
        note = self.path / "run.json"
        found = _read_note(note)
        if found is None:
            with replaced(note) as part:
                part.write_text(json.dumps({"run": self._fingerprint}), encoding="utf-8")
            return 0
        if found != {"run": self._fingerprint}:
            raise ConfigurationError(
                f"{self.path} belongs to another run: the table, the model or the settings were "
                "different; finish that run with what it had, or delete the folder to begin anew"
            )
        count = 0
        while self._part(count).is_file():
            count += 1
        return count

    def _join(self) -> None:
        parquet = import_extra("pyarrow.parquet")
        if not self.count:
            shutil.rmtree(self.path)
            raise ConfigurationError("the table has no rows")
        schema = parquet.read_schema(self._part(0)).with_metadata({_RUN: self._fingerprint})
        with replaced(self._target) as whole, parquet.ParquetWriter(whole, schema) as writer:
            for number in range(self.count):
                writer.write_table(
                    parquet.read_table(self._part(number)).replace_schema_metadata(schema.metadata)
                )


def _read_note(note: Path) -> Any:
    """What a note says; None where there is none, or one that no run has finished writing."""
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _run_of(target: Path) -> str | None:
    """The fingerprint of the run that wrote a result, where there is one."""
    parquet = import_extra("pyarrow.parquet")
    arrow = import_extra("pyarrow")
    try:
        metadata = parquet.read_schema(target).metadata or {}
    except (OSError, arrow.ArrowInvalid):
        return None
    found = metadata.get(_RUN)
    return found.decode("utf-8", "replace") if found is not None else None
