"""The formats a table is read from, each as columns and a stream of rows of cells."""

from __future__ import annotations

import itertools
import json
import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from lepton.data.delimited import parse_rows, sniff_delimiter
from lepton.data.encodings import (
    SAMPLE_BYTES,
    check_encoding,
    decode_lines,
    detect_encoding,
)
from lepton.data.table import Problems, RowProblem
from lepton.errors import DataError

DELIMITED = frozenset({".csv", ".tsv", ".tab", ".txt"})
JSON_LINES = frozenset({".jsonl", ".ndjson", ".json"})
PARQUET = frozenset({".parquet", ".pq"})
EXCEL = frozenset({".xlsx", ".xlsm"})

_JSON_SAMPLE_ROWS = 1000
_BATCH_ROWS = 4096
_MAX_DOCUMENT_BYTES = 16 << 20
_MAX_UNPACKED_SHARE = 200
_MAX_UNPACKED_BYTES = 4 << 30


class Format(Protocol):
    """A file that was opened: its columns are known, its rows are yet to be read."""

    columns: tuple[str, ...]
    size: int | None
    """What ``position`` counts up to: bytes, or rows; None where that is not known."""
    position: int

    def rows(self, problems: Problems) -> Iterator[tuple[int, Sequence[str | None]]]:
        """Line and cells of each row, as many cells as columns."""
        ...


class DelimitedFormat:
    """CSV, TSV and other delimited text."""

    def __init__(
        self, path: Path, encoding: str | None, delimiter: str | None, header: bool
    ) -> None:
        self._path = path
        with path.open("rb") as stream:
            sample = stream.read(SAMPLE_BYTES)
        self.encoding = encoding or detect_encoding(sample)
        check_encoding(self.encoding, str(path))
        self.delimiter = delimiter or sniff_delimiter(
            sample.decode(self.encoding, errors="replace")
        )
        self.size: int | None = path.stat().st_size
        self.position = 0
        self._header = header
        first = next((cells for _, cells in self._parse(Problems())), None)
        if first is None:
            raise DataError("the file is empty: there is no row to read", file=path)
        self.columns = _unique(first) if header else _unique([""] * len(first))

    def rows(self, problems: Problems) -> Iterator[tuple[int, Sequence[str | None]]]:
        """See ``Format.rows``; a row with too many or too few cells is listed."""
        width = len(self.columns)
        rows = self._parse(problems)
        for line, cells in itertools.islice(rows, 1 if self._header else 0, None):
            if len(cells) == width:
                yield line, cells
                continue
            surplus = cells[width:]
            kept = len(cells) > 1 and not any(cell.strip() for cell in surplus)
            detail = f"{len(cells)} cells where the header has {width}"
            if surplus and not kept:
                detail += f"; is a cell that holds {self.delimiter!r} missing its quotes?"
            problems.add(RowProblem(line, "columns", detail, kept=kept))
            if kept:
                yield line, [*cells[:width], *[None] * (width - len(cells))]

    def _parse(self, problems: Problems) -> Iterator[tuple[int, list[str]]]:
        with self._path.open("rb") as stream:
            lines = decode_lines(stream, self.encoding, problems, source=str(self._path))

            def counted() -> Iterator[Any]:
                self.position = 0
                for line in lines:
                    self.position += line.size
                    yield line

            yield from parse_rows(counted(), self.delimiter, problems)


class JsonLinesFormat:
    """One JSON object a line; columns are the fields of the first 1,000 objects."""

    def __init__(self, path: Path, encoding: str | None) -> None:
        self._path = path
        with path.open("rb") as stream:
            sample = stream.read(SAMPLE_BYTES)
        self.encoding = encoding or detect_encoding(sample)
        if sample.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
            raise DataError(
                "one JSON array; write one object a line instead (JSON Lines)", file=path
            )
        self.size: int | None = path.stat().st_size
        self.position = 0
        objects = itertools.islice(self._objects(Problems()), _JSON_SAMPLE_ROWS)
        self.columns = tuple(dict.fromkeys(key for _, row in objects for key in row))
        if not self.columns:
            raise DataError("the file holds no JSON object", file=path)

    def rows(self, problems: Problems) -> Iterator[tuple[int, Sequence[str | None]]]:
        """See ``Format.rows``."""
        known = frozenset(self.columns)
        for line, row in self._objects(problems):
            if not known.issuperset(row):
                unknown = ", ".join(sorted(set(row) - known))
                detail = f"fields that the first rows do not have: {unknown}"
                problems.add(RowProblem(line, "columns", detail, kept=True))
            yield line, [cell(row.get(column)) for column in self.columns]

    def _objects(self, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
        with self._path.open("rb") as stream:
            self.position = 0
            lines = decode_lines(stream, self.encoding, problems, source=str(self._path))
            for line in lines:
                self.position += line.size
                if not line.text.strip():
                    continue
                try:
                    row = json.loads(line.text)
                except (ValueError, RecursionError) as error:
                    detail = f"not JSON: {error}"
                else:
                    if isinstance(row, dict):
                        yield line.number, row
                        continue
                    detail = "not a JSON object"
                problems.add(RowProblem(line.number, "json", detail, kept=False))


class ParquetFormat:
    """Apache Parquet, read in batches of rows."""

    def __init__(self, path: Path) -> None:
        parquet = import_extra("pyarrow.parquet")
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
        for batch in self._file.iter_batches(batch_size=_BATCH_ROWS):
            columns = [column.to_pylist() for column in batch.columns]
            for cells in zip(*columns, strict=True):
                self.position += 1
                yield self.position, [cell(value) for value in cells]


class ExcelFormat:
    """The first (or the named) sheet of an Excel or WPS workbook."""

    def __init__(self, path: Path, sheet: str | None, header: bool) -> None:
        openpyxl = import_extra("openpyxl")
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
        self.columns = _unique(names if header else [""] * len(names))

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
        for line, values in enumerate(self._sheet.iter_rows(values_only=True), 1):
            cells = [cell(value) for value in values]
            while cells and cells[-1] is None:
                cells.pop()
            if cells:
                yield line, cells


class FolderFormat:
    """A folder with a sub-folder for each label and a text file for each row."""

    columns: tuple[str, ...] = ("text", "label", "file")

    def __init__(self, path: Path, encoding: str | None) -> None:
        if encoding is not None:
            check_encoding(encoding, str(path))
        self._encoding = encoding
        self._files = [
            file
            for folder in sorted(path.iterdir())
            if folder.is_dir() and not folder.name.startswith(".")
            for file in sorted(folder.iterdir())
            if file.is_file() and not file.name.startswith(".")
        ]
        if not self._files:
            raise DataError(
                "no text is here: give a folder with one sub-folder for each label", file=path
            )
        self.size: int | None = len(self._files)
        self.position = 0

    def rows(self, problems: Problems) -> Iterator[tuple[int, Sequence[str | None]]]:
        """See ``Format.rows``; a file longer than 16 MB is listed and not read."""
        for number, file in enumerate(self._files, 1):
            self.position = number
            if file.stat().st_size > _MAX_DOCUMENT_BYTES:
                detail = f"{file.name} is longer than {_MAX_DOCUMENT_BYTES >> 20} MB"
                problems.add(RowProblem(number, "cell", detail, kept=False))
                continue
            raw = file.read_bytes()
            encoding = self._encoding or detect_encoding(raw)
            try:
                text = raw.decode(encoding)
            except UnicodeDecodeError:
                text = raw.decode(encoding, errors="replace")
                detail = f"{file.name} is not {encoding}: unreadable bytes became U+FFFD"
                problems.add(RowProblem(number, "encoding", detail, kept=True))
            yield number, (text, file.parent.name, f"{file.parent.name}/{file.name}")


def cell(value: Any) -> str | None:
    """A cell of a typed format as text; None and NaN are missing, 3.0 is "3"."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def import_extra(name: str, extra: str = "data") -> Any:
    """Import ``name``, a library of the extra ``extra``.

    Raises:
        DataError: it is not installed.
    """
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise DataError(
            f"{error.name} is not installed: pip install 'lepton-engine[{extra}]'"
        ) from error


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    taken: set[str] = set()
    result = []
    for position, name in enumerate(names, 1):
        wanted = name.strip().removeprefix("\ufeff") or f"column {position}"
        unique, copy = wanted, 2
        while unique in taken:
            unique, copy = f"{wanted} ({copy})", copy + 1
        taken.add(unique)
        result.append(unique)
    return tuple(result)


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
