"""Answers as they come, kept so that a run can be killed at any moment and resumed.

The journal lies beside the answers as ``<answers>.partial``: a first line that says what run it
belongs to, then one JSON object a line, ``[row number, answer]``. Lines are only ever appended, so
after a crash at most the last one is torn; it is cut off, and its row computed again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from lepton.errors import ConfigurationError
from lepton.files import lock, replaced

_SYNC_SECONDS = 5.0
"""What a power failure may cost; a killed process loses nothing."""


class Journal:
    """The journal of one run, locked while it is open.

    ``fingerprint`` is whatever decides the answers. Raises ConfigurationError when the journal
    belongs to another run, another process has it open, or it cannot be written.
    """

    def __init__(
        self,
        answers: Path,
        fingerprint: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = journal_path(answers)
        self._answers = answers
        self._clock = clock
        self._synced = clock()
        self._places: dict[int, tuple[int, int]] = {}
        """Offset and length of each row's line."""
        try:
            self._file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise ConfigurationError(f"{self.path} cannot be written: {error.strerror}") from error
        try:
            lock(self._file, f"{self.path} is in use: another process is writing these answers")
            self._recover(fingerprint)
        except BaseException:
            self._file.close()
            raise

    @property
    def done(self) -> frozenset[int]:
        """Numbers of the rows that have an answer."""
        return frozenset(self._places)

    def add(self, number: int, answer: Mapping[str, Any]) -> None:
        """Keep the answer of a row that has none yet."""
        if number in self._places:
            raise ValueError(f"row {number} has an answer already")
        line = json.dumps([number, answer], ensure_ascii=False).encode() + b"\n"
        offset = self._file.seek(0, os.SEEK_END)
        _write_all(self._file, line)
        self._places[number] = (offset, len(line))
        if self._clock() - self._synced > _SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = self._clock()

    def finish(self, numbers: Iterable[int]) -> int:
        """Write the answers of these rows, in this order, at once, and remove the journal.

        How many of the answers are errors.
        """
        failed = 0
        with replaced(self._answers) as part, part.open("wb") as output:
            for number in numbers:
                offset, length = self._places[number]
                self._file.seek(offset)
                _, answer = json.loads(self._file.read(length))
                failed += "error" in answer
                output.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
        self.path.unlink()
        return failed

    def close(self) -> None:
        """Release the lock; what is not finished can be resumed."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _recover(self, fingerprint: str) -> None:
        """Find the whole lines, and cut off what is not one."""
        header = json.dumps({"run": fingerprint}).encode() + b"\n"
        self._file.seek(0)
        first = self._file.readline()
        if not first.endswith(b"\n"):
            self._file.truncate(0)
            _write_all(self._file, header)
            return
        if first != header:
            raise ConfigurationError(
                f"{self.path} belongs to another run: the prompts, the model or the settings were "
                "different; finish that run with what it had, or delete the file to begin anew"
            )
        end = len(first)
        with self.path.open("rb") as reader:
            reader.seek(end)
            for line in reader:
                number = _number(line)
                if number is None:
                    break
                self._places[number] = (end, len(line))
                end += len(line)
        self._file.truncate(end)


def journal_path(answers: Path) -> Path:
    """Where the journal of a run with these answers lies."""
    return answers.with_name(answers.name + ".partial")


def _write_all(file: BinaryIO, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[file.write(view) or 0 :]


def _number(line: bytes) -> int | None:
    """The row number of a whole line; None for a torn one."""
    if not line.endswith(b"\n"):
        return None
    try:
        number, answer = json.loads(line)
    except ValueError:
        return None
    return number if type(number) is int and isinstance(answer, dict) else None
