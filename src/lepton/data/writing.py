"""Writing tables: never over an existing file, and under a passing name until they are complete."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from lepton.data.cells import unique_names
from lepton.data.sinks import open_sink
from lepton.data.table import RowProblem
from lepton.errors import DataError
from lepton.files import complete, part_of, replaced


class TableWriter:
    """Writes rows into a new file, in the format of its name; a context manager.

    Until the end the file is called ``<name>.part``. Whatever ends the writing early (Ctrl-C, a
    full disk) leaves the rows written so far under that name.
    """

    def __init__(self, path: str | Path, columns: Sequence[str], *, force: bool = False) -> None:
        """Open ``path`` for rows of ``columns``, which get numbers where two are alike.

        Raises:
            DataError: the file exists and ``force`` is not given, its format is unknown, or it
                cannot be written.
        """
        self.path = Path(path)
        self.columns = unique_names(columns)
        self.count = 0
        check_free(self.path, force=force)
        self.part = part_of(self.path)
        kind = self.path.suffix.lower()
        with explain_errors(self.part):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._sink = open_sink(self.part, self.columns, kind)

    def write(self, values: Sequence[str | None]) -> None:
        """Write one row."""
        with explain_errors(self.part):
            self._sink.write(values)
        self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            with explain_errors(self.part):
                self._sink.close()
                complete(self.part, self.path)
            return
        # The error that ended the writing is the one to tell.
        with suppress(OSError, ValueError, DataError):
            self._sink.close()


class ProblemWriter:
    """A table of rows that were rejected or mended, which exists from the first of them on.

    Give ``add`` to a reader as ``on_problem``. A context manager, as ``TableWriter`` is.
    """

    def __init__(self, path: str | Path, *, force: bool = False) -> None:
        """Errors as for ``TableWriter``."""
        self.path = Path(path)
        self.count = 0
        self._force = force
        self._writer: TableWriter | None = None
        check_free(self.path, force=force)

    def add(self, problem: RowProblem) -> None:
        """Write one row of the file: its line, what was wrong with it, and what became of it."""
        if self._writer is None:
            columns = ("line", "reason", "detail", "outcome")
            self._writer = TableWriter(self.path, columns, force=self._force)
        outcome = "mended" if problem.kept else "rejected"
        self._writer.write((str(problem.line), problem.reason, problem.detail, outcome))
        self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, trace)
        elif self._force and kind is None:
            self.path.unlink(missing_ok=True)


def write_table(
    path: str | Path,
    columns: Sequence[str],
    rows: Iterator[Sequence[str | None]] | Sequence[Sequence[str | None]],
    *,
    force: bool = False,
) -> int:
    """Write a whole table; returns the number of rows. Errors as for ``TableWriter``."""
    with TableWriter(path, columns, force=force) as writer:
        for row in rows:
            writer.write(row)
    return writer.count


def write_text(path: str | Path, text: str, *, force: bool = False) -> None:
    """Write a small text file as UTF-8, complete or not at all.

    Raises:
        DataError: as for ``TableWriter``.
    """
    path = Path(path)
    check_free(path, force=force)
    with explain_errors(part_of(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as part:
            part.write_text(text, encoding="utf-8")


def check_free(*paths: Path, force: bool = False) -> None:
    """Refuse to write over any of ``paths`` unless forced, and to write two tables into one.

    Raises:
        DataError: a file exists, or two paths are one.
    """
    for position, path in enumerate(paths):
        if path.resolve() in (other.resolve() for other in paths[:position]):
            raise DataError("two things would be written here; choose another name", file=path)
        if path.exists() and not force:
            raise DataError(
                "exists and is not written over; choose another name or give --force", file=path
            )


@contextmanager
def explain_errors(path: Path) -> Iterator[None]:
    """Turn an error of the file system into one that says what is left and what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        way_out = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            way_out = "; free some space and run again: what was written so far is kept there"
        raise DataError(f"cannot be written: {reason}{way_out}", file=path) from error
    except UnicodeEncodeError as error:
        raise DataError(
            f"cannot be written: a cell holds {error.object[error.start : error.end]!a}, half of a "
            "surrogate pair; replace it first",
            file=path,
        ) from error
