"""The formats with typed cells that a table is read from: Parquet and Excel."""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lepton.data.cells import cell, header_names
from lepton.data.table import Problems, RowProblem
from lepton.errors import DataError
from lepton.extras import import_extra

_BATCH_ROWS = 4096
_MAX_UNPACKED_SHARE = 200
_MAX_UNPACKED_BYTES = 4 << 30


class ParquetFormat:
    """Apache Parquet, read in batches of rows."""

    def __init__(self, path: Path) -> None:
        parquet = import_extra("pyarrow.parquet")
        self._path = path
        try:
            self._file = parquet.ParquetFile(path)
        except Exception as error:  # pyarrow raises several unrelated kinds
            raise DataError(f"not a Parquet file: {error}", file=path) from error
        self.columns = tuple(self._file.schema_arrow.names)
        self.size: int | None = self._file.metadata.num_rows
        self.position = 0

    def rows(self, problems: Problems) -> Iterator[tuple[int, Sequence[str | None]]]:  # noqa: ARG002
        """See ``Format.rows``; line 1 is the first row."""
        self.position = 0
        for columns in self._batches():
            for cells in zip(*columns, strict=True):
                self.position += 1
                yield self.position, [cell(value) for value in cells]

    def _batches(self) -> Iterator[list[list[Any]]]:
        try:
            for batch in self._file.iter_batches(batch_size=_BATCH_ROWS):
                yield [column.to_pylist() for column in batch.columns]
        except Exception as error:  # pyarrow raises several unrelated kinds
            raise DataError(
                f"damaged after row {self.position:,}: {error}", file=self._path
            ) from error


class ExcelFormat:
    """The first (or the named) sheet of an Excel or WPS workbook."""

    def __init__(self, path: Path, sheet: str | None, header: bool) -> None:
        openpyxl = import_extra("openpyxl")
        self._path = path
        _refuse_zip_bomb(path)
        try:
            self._book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        except Exception as error:  # openpyxl raises several unrelated kinds
            raise DataError(f"not an Excel workbook: {error}", file=path) from error
        if sheet is not None and sheet not in self._book.sheetnames:
            raise DataError(
                f"no sheet {sheet!r}; there are: {', '.join(self._book.sheetnames)}", file=path
            )
        self._sheet = self._book[sheet] if sheet else self._book.worksheets[0]
        # The size that a workbook states of itself may be wrong or missing.
        self._sheet.reset_dimensions()
        self._header = header
        self.size: int | None = None
        self.position = 0
        first = next((cells for _, cells in self._cells()), None)
        if first is None:
            raise DataError("the sheet is empty: there is no row to read", file=path)
        names = [value or "" for value in first]
        self.columns = header_names(names if header else [""] * len(names))

    def rows(self, problems: Problems) -> Iterator[tuple[int, Sequence[str | None]]]:
        """See ``Format.rows``; lines are Excel's row numbers."""
        width = len(self.columns)
        for line, cells in itertools.islice(self._cells(), 1 if self._header else 0, None):
            self.position = line
            if any(value is not None for value in cells[width:]):
                detail = f"cells beyond the {width} of the header"
                problems.add(RowProblem(line, "columns", detail, kept=True))
            yield line, [*cells[:width], *[None] * (width - len(cells))]

    def _cells(self) -> Iterator[tuple[int, list[str | None]]]:
        line = 0
        try:
            for line, values in enumerate(self._sheet.iter_rows(values_only=True), 1):
                cells = [cell(value) for value in values]
                while cells and cells[-1] is None:
                    cells.pop()
                if cells:
                    yield line, cells
        except Exception as error:  # openpyxl raises several unrelated kinds
            raise DataError(f"damaged after row {line:,}: {error}", file=self._path) from error


def _refuse_zip_bomb(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(
            f"not an Excel workbook ({error}); save an old .xls as .xlsx", file=path
        ) from error
    limit = min(_MAX_UNPACKED_BYTES, max(_MAX_UNPACKED_SHARE * path.stat().st_size, 64 << 20))
    if unpacked > limit:
        raise DataError(
            f"would unpack to {unpacked >> 20:,} MB; export the sheet as CSV", file=path
        )
