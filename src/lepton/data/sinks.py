"""Rows of cells into each format that a table is written in."""

from __future__ import annotations

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lepton.data import formats
from lepton.errors import DataError
from lepton.extras import import_extra

_BATCH_ROWS = 4096
_EXCEL_ROWS = 1_048_576
_EXCEL_CHARACTERS = 32_767


class Sink(ABC):
    """Rows into one format."""

    @abstractmethod
    def write(self, values: Sequence[str | None]) -> None:
        """Add a row."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file."""


def open_sink(path: Path, columns: Sequence[str], kind: str) -> Sink:
    """A file of the format that names with the ending ``kind`` stand for.

    Raises:
        DataError: there is no such format.
        ConfigurationError: the extra ``data`` is not installed.
        OSError: the file cannot be written.
    """
    if kind in formats.DELIMITED:
        return _DelimitedSink(path, columns, kind)
    if kind in formats.JSON_LINES:
        return _JsonLinesSink(path, columns)
    if kind in formats.PARQUET:
        return _ParquetSink(path, columns)
    if kind in formats.EXCEL:
        return _ExcelSink(path, columns)
    raise DataError("unknown format; write .csv, .tsv, .jsonl, .parquet or .xlsx", file=path)


class _DelimitedSink(Sink):
    def __init__(self, path: Path, columns: Sequence[str], kind: str) -> None:
        self._stream = path.open("w", encoding="utf-8", newline="")
        delimiter = "\t" if kind in (".tsv", ".tab") else ","
        self._writer = csv.writer(self._stream, delimiter=delimiter, lineterminator="\n")
        self._writer.writerow(columns)

    def write(self, values: Sequence[str | None]) -> None:
        self._writer.writerow(["" if value is None else value for value in values])

    def close(self) -> None:
        self._stream.close()


class _JsonLinesSink(Sink):
    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._stream = path.open("w", encoding="utf-8")
        self._columns = columns

    def write(self, values: Sequence[str | None]) -> None:
        row = dict(zip(self._columns, values, strict=True))
        self._stream.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._stream.close()


class _ParquetSink(Sink):
    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._arrow = import_extra("pyarrow")
        parquet = import_extra("pyarrow.parquet")
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


class _ExcelSink(Sink):
    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._openpyxl = import_extra("openpyxl")
        self._path = path
        self._columns = columns
        self._rows = 0
        self._book: Any = self._openpyxl.Workbook(write_only=True)
        self._sheet = self._book.create_sheet()
        self.write(columns)

    def write(self, values: Sequence[str | None]) -> None:
        self._rows += 1
        if self._rows > _EXCEL_ROWS:
            raise DataError(
                f"a sheet of Excel has room for {_EXCEL_ROWS:,} rows: write .csv or .parquet",
                file=self._path,
            )
        self._sheet.append(
            [self._cell(value, name) for value, name in zip(values, self._columns, strict=True)]
        )

    def close(self) -> None:
        self._book.save(self._path)

    def _cell(self, value: str | None, column: str) -> Any:
        if not value:
            return None
        text = self._openpyxl.cell.cell.ILLEGAL_CHARACTERS_RE.sub("", value)
        if len(text) > _EXCEL_CHARACTERS:
            raise DataError(
                f"{len(text):,} characters, and a cell of Excel has room for "
                f"{_EXCEL_CHARACTERS:,}: write .csv or .parquet",
                file=self._path,
                line=self._rows,
                column=column,
            )
        if text[:1] not in ("=", "#"):
            return text
        # Left to itself, openpyxl takes such a text for a formula or an error.
        cell = self._openpyxl.cell.WriteOnlyCell(self._sheet, text)
        cell.data_type = "s"
        return cell
