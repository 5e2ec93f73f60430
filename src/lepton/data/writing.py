"""Writing tables: never over an existing file, and under a passing name until they are complete."""

from __future__ import annotations

import csv
import errno
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lepton.data import formats
from lepton.errors import DataError
from lepton.files import complete, part_of, replaced

_BATCH_ROWS = 4096


class TableWriter:
    """Writes rows into a new file, in the format of its name; a context manager.

    Until the end the file is called ``<name>.part``. Whatever ends the writing early (Ctrl-C, a
    full disk) leaves the rows written so far under that name.
    """

    def __init__(self, path: str | Path, columns: Sequence[str], *, force: bool = False) -> None:
        """Open ``path`` for rows of ``columns``.

        Raises:
            DataError: the file exists and ``force`` is not given, its format is unknown, or it
                cannot be written.
        """
        self.path = Path(path)
        self.columns = tuple(columns)
        self.count = 0
        check_free(self.path, force=force)
        self.part = part_of(self.path)
        kind = self.path.suffix.lower()
        with explain_errors(self.part):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if kind in formats.DELIMITED:
                self._sink: _Sink = _DelimitedSink(self.part, self.columns, kind)
            elif kind in formats.JSON_LINES:
                self._sink = _JsonLinesSink(self.part, self.columns)
            elif kind in formats.PARQUET:
                self._sink = _ParquetSink(self.part, self.columns)
            elif kind in formats.EXCEL:
                self._sink = _ExcelSink(self.part, self.columns)
            else:
                raise DataError(
                    "unknown format; write .csv, .tsv, .jsonl, .parquet or .xlsx", file=path
                )

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
        with suppress(OSError, DataError):
            self._sink.close()


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


def check_free(path: Path, *, force: bool = False) -> None:
    """Refuse to write over ``path`` unless forced.

    Raises:
        DataError: the file exists.
    """
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


class _Sink(ABC):
    """Rows into one format."""

    @abstractmethod
    def write(self, values: Sequence[str | None]) -> None:
        """Add a row."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file."""


class _DelimitedSink(_Sink):
    def __init__(self, path: Path, columns: Sequence[str], kind: str) -> None:
        self._stream = path.open("w", encoding="utf-8", newline="")
        delimiter = "\t" if kind in (".tsv", ".tab") else ","
        self._writer = csv.writer(self._stream, delimiter=delimiter, lineterminator="\n")
        self._writer.writerow(columns)

    def write(self, values: Sequence[str | None]) -> None:
        self._writer.writerow(["" if value is None else value for value in values])

    def close(self) -> None:
        self._stream.close()


class _JsonLinesSink(_Sink):
    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._stream = path.open("w", encoding="utf-8")
        self._columns = columns

    def write(self, values: Sequence[str | None]) -> None:
        row = dict(zip(self._columns, values, strict=True))
        self._stream.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._stream.close()


class _ParquetSink(_Sink):
    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._arrow = formats.import_extra("pyarrow")
        parquet = formats.import_extra("pyarrow.parquet")
        self._schema = self._arrow.schema([(name, self._arrow.string()) for name in columns])
        self._writer = parquet.ParquetWriter(path, self._schema)
        self._rows: list[Sequence[str | None]] = []

    def write(self, values: Sequence[str | None]) -> None:
        self._rows.append(values)
        if len(self._rows) >= _BATCH_ROWS:
            self._flush()

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        columns = [list(column) for column in zip(*self._rows, strict=True)]
        arrays = [self._arrow.array(column, self._arrow.string()) for column in columns]
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        self._rows = []


class _ExcelSink(_Sink):
    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        openpyxl = formats.import_extra("openpyxl")
        self._path = path
        self._book: Any = openpyxl.Workbook(write_only=True)
        self._sheet = self._book.create_sheet()
        self._clean: Callable[[str], str] = lambda text: (
            openpyxl.cell.cell.ILLEGAL_CHARACTERS_RE.sub("", text)
        )
        self.write(columns)

    def write(self, values: Sequence[str | None]) -> None:
        self._sheet.append([None if value is None else self._clean(value) for value in values])

    def close(self) -> None:
        self._book.save(self._path)
