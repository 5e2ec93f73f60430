"""A file that is written bit by bit and continued after whatever ended the process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self

from lepton.errors import ConfigurationError
from lepton.files import lock, part_of
from lepton.training.run import read_json, write_json

_NOTE_BYTES = 1 << 20


class ResumableFile:
    """``out`` while it grows in ``out.part``; ``out.progress`` notes what of it is certain."""

    def __init__(self, out: Path, stream: BinaryIO, identity: Mapping[str, Any]) -> None:
        """Take over ``stream``, which is locked; see `opened`."""
        self._out = out
        self._stream = stream
        self._identity = dict(identity)
        self._note = _note_of(out)
        self.rows = self._continue()
        """Rows that are certain."""

    @classmethod
    @contextmanager
    def opened(cls, out: Path, identity: Mapping[str, Any]) -> Iterator[Self]:
        """Begin ``out``, or continue it after its last certain row.

        Where no row becomes certain, nothing is left behind.

        Args:
            out: the file to write; it must not exist.
            identity: JSON that must be the same for the file to be continued.

        Raises:
            ConfigurationError: ``out`` exists, cannot be written, belongs to another identity, or
                another process writes it.
        """
        part = part_of(out)
        _check_free(out)
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            with os.fdopen(descriptor, "r+b") as stream:
                lock(stream, f"another process is writing {part}")
                file = cls(out, stream, identity)
                try:
                    yield file
                finally:
                    if file.rows == 0:
                        file._discard()
        except OSError as error:
            raise ConfigurationError(
                f"{out} cannot be written: {error.strerror or error}; what is done is kept in "
                f"{part.name}, and the same command continues it"
            ) from error

    def append(self, content: bytes, rows: int) -> None:
        """Write ``rows`` more rows, and then note them as certain."""
        self._stream.write(content)
        self.rows += rows
        self._sync()
        noted = {**self._identity, "rows": self.rows, "bytes": self._stream.tell()}
        write_json(self._note, noted)

    def finish(self) -> None:
        """Give the file its name.

        Raises:
            ConfigurationError: another file has taken that name meanwhile.
        """
        _check_free(self._out)
        part_of(self._out).rename(self._out)
        self._note.unlink(missing_ok=True)

    def _discard(self) -> None:
        part_of(self._out).unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _sync(self) -> None:
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _continue(self) -> int:
        """Cut off what is not certain and return how many rows are."""
        size = self._stream.seek(0, os.SEEK_END)
        # A note without a part is left where a process ended between the last two steps.
        if size == 0 or not self._note.exists():
            self._stream.seek(0)
            self._stream.truncate()
            return 0
        noted = read_json(self._note, _NOTE_BYTES)
        part = part_of(self._out).name
        if any(noted.get(name) != value for name, value in self._identity.items()):
            raise ConfigurationError(
                f"{self._note} belongs to another input, model or setting; finish that one, or "
                f"remove {self._note.name} and {part} to begin anew"
            )
        certain = int(noted["bytes"])
        if size < certain:
            raise ConfigurationError(
                f"{part} is shorter than {self._note.name} says; remove both to begin anew"
            )
        self._stream.seek(certain)
        self._stream.truncate()
        return int(noted["rows"])


def _note_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.progress")


def _check_free(out: Path) -> None:
    if not out.exists():
        return
    kept = f"; what is done is kept in {part_of(out).name}" if part_of(out).exists() else ""
    raise ConfigurationError(
        f"{out} exists already; nothing is overwritten: name another file, or move it away{kept}"
    )
